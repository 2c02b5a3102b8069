"""
``page_owner``: who allocated each page, in the text format of mm/page_owner.c of 6.12.

The file is there only while owners are tracked. By default it is an ordinary text file: st_size
is the length of the text, any offset and any size of read work. With kernel_abi it is what the
kernel's is: see kernel_abi.py.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from pageownerfs import _native
from pageownerfs.mm.stack_depot import format_stack

from .kernel_abi import KernelAbiFile
from .reader import ReaderFile

if TYPE_CHECKING:
    from .view import OpenFile, Source

_log = logging.getLogger(__name__)


class PageOwnerView:
    """The file ``page_owner``; mode 0400, as up to 6.19."""

    path = "/page_owner"
    mode = 0o400

    def __init__(self, source: Source, *, kernel_abi: bool = False) -> None:
        """
        Show the owners of ``source``.

        :param kernel_abi: one record per read, positions are PFNs, st_size 0
        """
        self._source = source
        self._kernel_abi = kernel_abi
        self._lock = threading.Lock()
        self._made: _native.Renderer | None = None

    def present(self) -> bool:
        """Tell whether tracking is on: when disabled, the kernel has no such file either."""
        return self._source.page_owner_on

    def size(self) -> int:
        """Length of the whole text now, found by a pass over the table; 0 with kernel_abi."""
        return 0 if self._kernel_abi else self._renderer().size()

    def open(self) -> OpenFile:
        """Open it at the first PFN."""
        self._source.update()
        renderer = self._renderer()
        return KernelAbiFile(renderer) if self._kernel_abi else ReaderFile(renderer.reader())

    def _renderer(self) -> _native.Renderer:
        # Made on first use: before tracking is on there is no table.
        with self._lock:
            if self._made is None:
                self._made = _native.Renderer(self._source.table(), self._text)
            return self._made

    def _text(self, kind: int, value: int) -> bytes:
        # What the renderer asks once for each value that it meets, and caches.
        try:
            return self._name(kind, value)
        except ValueError as error:
            # A client has written over the tables: the record shows, and the file goes on.
            _log.warning("page_owner: %s", error)
            return b"" if kind == _native.TEXT_STACK else b"%d?" % value

    def _name(self, kind: int, value: int) -> bytes:
        vocabulary = self._source.vocabulary
        match kind:
            case _native.TEXT_GFP:
                return vocabulary.format_gfp(value).encode()
            case _native.TEXT_FLAGS:
                return vocabulary.format_page_flags(value).encode()
            case _native.TEXT_STACK:
                return format_stack(self._source.stack(value))
            case _native.TEXT_MIGRATE_REASON:
                return vocabulary.migrate_reason_name(value).encode()
            case _native.TEXT_MIGRATETYPE:
                return vocabulary.migratetype_name(value).encode()
            case _native.TEXT_MEMCG:
                return self._source.memcg_lines(value)
        msg = f"the renderer asked for a text of unknown kind {kind}"
        raise AssertionError(msg)
