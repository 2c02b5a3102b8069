"""One record of a page_owner text, with typed fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pageownerfs import _native

from .source import Source, Window, open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Damage(NamedTuple):
    """Something in a text that is no record, or not a whole one, and was skipped."""

    offset: int
    """Bytes from the start of the text, unpacked."""
    record: int
    """Number that it has as a record, from 1."""
    reason: str
    """What is wrong."""

    def __str__(self) -> str:
        """Say it: ``record 7 at byte 3210: the header line is not one``."""
        return f"record {self.record} at byte {self.offset}: {self.reason}"


class Record(NamedTuple):
    """
    A record of page_owner, as print_page_owner() in mm/page_owner.c prints it.

    What a kernel of some age does not print is None. Made by read_records(); the fields are those
    of the text and were held against what a kernel can print.
    """

    order: int
    """``unsigned int``, ``[0, 63]``; the record is of 2^order pages."""
    mask: bytes
    """The gfp mask as printed: ``0xcc0(GFP_KERNEL)``; without names up to Linux 4.5."""
    pid: int | None
    tgid: int | None
    comm: bytes | None
    """At most 15 bytes of any value but NUL."""
    ts_nsec: int | None
    free_ts_nsec: int | None
    pfn: int | None
    """None: the line is missing."""
    header: bytes
    """The first line, with its newline."""
    pfn_line: bytes
    """``PFN 0x1 type ...`` without newline; empty if missing."""
    stacktrace: bytes
    """The lines behind that: the stack, innermost frame first; ``Charged to ...`` and the like."""

    @property
    def gfp_mask(self) -> int:
        """``gfp_t``, the number of mask."""
        return int(self.mask.partition(b"(")[0], 16)

    @property
    def nr_base_pages(self) -> int:
        """Pages that it is of."""
        return 1 << self.order

    @property
    def frames(self) -> list[bytes]:
        """The stack alone, innermost frame first: ``name+0x1a/0x30 [module]``."""
        return [line[1:] for line in self.stacktrace.splitlines() if line.startswith(b" ")]

    @property
    def text(self) -> bytes:
        """The whole record, with the empty line at its end."""
        pfn_line = self.pfn_line + b"\n" if self.pfn_line else b""
        return b"".join((self.header, pfn_line, self.stacktrace, b"\n"))


def read_records(
    path: str, on_damage: Callable[[Damage], None] = lambda _damage: None
) -> Iterator[Record]:
    """
    Yield the records of a text, one after the other.

    :param path: a file, plain or packed (gzip, xz, zstd), a pipe, the mount; ``-``: standard input
    :param on_damage: called with each thing that is no whole record; they are skipped
    :raises PageOwnerError: it can't be read
    """
    with open_source(path) as source:
        yield from _Reader(source, on_damage).records()


class _Reader:
    """A walk through a text."""

    def __init__(self, source: Source, on_damage: Callable[[Damage], None]) -> None:
        self._source = source
        self._on_damage = on_damage
        self._window = Window()
        self._offset = 0
        self._number = 0
        self._in_damage = False

    def records(self) -> Iterator[Record]:
        more = True
        while more:
            nr_bytes = self._source.readinto(self._window.room)
            more = nr_bytes > 0
            if self._window.add(nr_bytes) or not more:
                yield from self._window_records(final=not more)

    def _window_records(self, *, final: bool) -> Iterator[Record]:
        text, used = self._window.text, 0
        while True:
            start, end, found = _native.parse_page_owner(text, used, final, self._in_damage)
            if end is None:
                self._in_damage = found
                break
            used = end
            self._number += 1
            self._in_damage = isinstance(found, str)
            if self._in_damage:
                self._on_damage(Damage(self._offset + start, self._number, found))
            else:
                yield Record._make(found)
        self._window.drop(start)
        self._offset += start
