"""
``page_owner_stacks/``: how many pages each stack holds (stack_start() etc. of mm/page_owner.c).

``show_stacks``, and since 6.19 ``show_handles`` and ``show_stacks_handles``, list the newest stack
first. Early pages are not counted.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pageownerfs.mm.kstrtox import kstrtoull

from .text import TextView
from .view import ViewError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pageownerfs.mm.formats import Format
    from pageownerfs.sources.base import Source, StackText

    from .view import Node


class PageOwnerStacks:
    """The four files, which share the threshold."""

    def __init__(self, source: Source, output_format: Format) -> None:
        """
        Show the stacks of ``source``.

        :param output_format: decides whether count_threshold ends in a newline
        """
        self._source = source
        self._newline = b"\n" if output_format.threshold_newline else b""
        self._threshold = 0
        self._texts: tuple[StackText | None, dict[int, bytes]] = None, {}

    def nodes(self) -> dict[str, Node]:
        """Return the files by path."""
        source = self._source
        return {
            "page_owner_stacks/show_stacks": TextView(source, self.show_stacks, "owners"),
            "page_owner_stacks/show_handles": TextView(source, self.show_handles, "owners"),
            "page_owner_stacks/show_stacks_handles": TextView(
                source, self.show_stacks_handles, "owners"
            ),
            "page_owner_stacks/count_threshold": TextView(
                source, self.count_threshold, "owners", mode=0o600, store=self.set_count_threshold
            ),
        }

    def _counts(self) -> Iterator[tuple[int, int]]:
        self._source.update()
        threshold = max(self._threshold, 1)
        return (pair for pair in self._source.stack_counts() if pair[1] >= threshold)

    def _stack(self, handle: int) -> bytes:
        stack_text = self._source.stack_text
        known, texts = self._texts
        if known != stack_text:
            texts = {}
            self._texts = stack_text, texts
        text = texts.get(handle)
        if text is None:
            try:
                text = stack_text(handle)
            except ValueError as error:
                return b" (%s)\n" % str(error).encode()
            texts[handle] = text
        return text

    def forget(self) -> None:
        """Free the texts of stacks that are no longer tracked."""
        self._texts = None, {}

    def show_stacks(self) -> bytes:
        """Format each stack that holds at least count_threshold pages, and its nr_base_pages."""
        return b"".join(
            b"%bnr_base_pages: %d\n\n" % (self._stack(handle), nr_base_pages)
            for handle, nr_base_pages in self._counts()
        )

    def show_handles(self) -> bytes:
        """Format the same as show_stacks(), with the handle instead of the stack."""
        return b"".join(b"handle: %d\nnr_base_pages: %d\n\n" % pair for pair in self._counts())

    def show_stacks_handles(self) -> bytes:
        """Format each stack and its handle, including stacks that hold no pages now."""
        self._source.update()
        return b"".join(
            b"%bhandle: %d\n\n" % (self._stack(handle), handle)
            for handle, _ in self._source.stack_counts()
        )

    def count_threshold(self) -> bytes:
        """Format the threshold: stacks with fewer pages are not shown."""
        return b"%d%b" % (self._threshold, self._newline)

    def set_count_threshold(self, data: bytes) -> None:
        """Set the threshold: decimal, hexadecimal with 0x, octal with 0.

        :raises ViewError: EINVAL: not a number; ERANGE: more than 64 bits
        """
        try:
            self._threshold = kstrtoull(data.decode("ascii", "replace"))
        except OverflowError as error:
            raise ViewError(errno.ERANGE) from error
        except ValueError as error:
            raise ViewError(errno.EINVAL) from error
