"""``page_owner``: a record for each allocated block (print_page_owner() of mm/page_owner.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pageownerfs.mm.vmstat import STAT_INTERVAL_NSEC

from .kernel_abi import KernelAbiFile
from .reader_file import ReaderFile

if TYPE_CHECKING:
    from pageownerfs.mm.formats import Format
    from pageownerfs.sources.base import Source

    from .record_text import RecordText
    from .view import OpenFile


class PageOwnerView:
    """The file ``page_owner``; mode 0600 if it takes filters, else 0400."""

    def __init__(
        self, source: Source, text: RecordText, *, kernel_abi: bool, output_format: Format
    ) -> None:
        """
        Show the owners of ``source``.

        :param text: renders the records of ``source``
        :param kernel_abi: return one record per read, treat positions as PFNs, report size 0
        :param output_format: format of the kernel that kernel_abi follows
        """
        self._source = source
        self._text = text
        self._kernel_abi = kernel_abi
        self._filters = output_format.filters or not kernel_abi
        self.mode = 0o600 if self._filters else 0o400

    def absent(self) -> str | None:
        """Return why the file is absent: tracking is off, as in a kernel without page_owner=on."""
        return self._source.lacks("owners")

    def size(self) -> int:
        """Return the length of the text, by a pass over the table; 0 with kernel_abi."""
        return 0 if self._kernel_abi else self._text.renderer().size(STAT_INTERVAL_NSEC)

    def open(self) -> OpenFile:
        """Open the file at the first PFN."""
        self._source.update()
        reader = self._text.renderer().reader()
        if self._kernel_abi:
            return KernelAbiFile(reader, self._nodes if self._filters else None)
        return ReaderFile(reader, self._nodes)

    def _nodes(self) -> set[int]:
        return {zone.nid for zone in self._source.zones()}
