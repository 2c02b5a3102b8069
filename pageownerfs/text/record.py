"""Records of a page_owner text, with typed fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pageownerfs import _native

from .input import Window, open_input

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    OnDamage = Callable[["Damage"], None]


class Damage(NamedTuple):
    """A part of a text that is not a complete record and was skipped."""

    offset: int
    """Bytes from the start of the uncompressed text."""
    record: int
    """Number of the damaged record in the text, from 1."""
    reason: str
    """What is wrong with it."""

    def __str__(self) -> str:
        """Return a line: ``record 7 at byte 3210: the header line is malformed``."""
        return f"record {self.record} at byte {self.offset}: {self.reason}"


class Record(NamedTuple):
    """
    A record of page_owner, as print_page_owner() in mm/page_owner.c prints it.

    read_records() and parse_records() make records. Fields that an older kernel does not print
    are None. Values that no kernel can print are treated as damage.
    """

    order: int
    """``unsigned int``, ``[0, 51]``; the block has 2^order pages."""
    mask: bytes
    """The gfp mask as printed: ``0xcc0(GFP_KERNEL)``; up to Linux 4.5, without names."""
    pid: int | None
    tgid: int | None
    comm: bytes | None
    """Up to 15 bytes of any value except NUL."""
    ts_nsec: int | None
    free_ts_nsec: int | None
    pfn: int | None
    """None if the PFN line is missing."""
    header: bytes
    """The first line, with its newline."""
    pfn_line: bytes
    """``PFN 0x1 type ...`` without its newline; empty if missing."""
    stacktrace: bytes
    """The lines after the PFN line: the stack, innermost frame first, and lines such as
    ``Charged to ...``."""

    @property
    def gfp_mask(self) -> int:
        """The number in ``mask``: ``gfp_t``."""
        return int(self.mask.partition(b"(")[0], 16)

    @property
    def nr_base_pages(self) -> int:
        """Number of base pages in the block."""
        return 1 << self.order

    @property
    def page_mt(self) -> bytes | None:
        """Name of the migratetype that the mask asks for; None up to Linux 4.5."""
        words = self.pfn_line.split(b" ", 4)
        return words[3] if words[2:3] == [b"type"] else None

    @property
    def pageblock(self) -> int | None:
        """Number of the pageblock."""
        number = self.pfn_line.partition(b" Block ")[2].partition(b" ")[0]
        return int(number) if number else None

    @property
    def pageblock_mt(self) -> bytes | None:
        """Migratetype of the pageblock as printed: a name, or a number up to Linux 4.5."""
        words = self.pfn_line.partition(b" Block ")[2].split(b" ", 3)
        return words[2] if len(words) > 2 else None

    @property
    def flags(self) -> bytes | None:
        """The page flags as printed: ``0x4000000000020028(uptodate|lru|zone=1)``."""
        return self.pfn_line.partition(b" Flags ")[2] or None

    @property
    def stack(self) -> bytes:
        """The lines of the stack, innermost frame first: `` name+0x1a/0x30 [module]``."""
        return b"".join(line for line in self._lines if line.startswith(b" "))

    @property
    def notes(self) -> bytes:
        """Lines after the stack, such as ``Charged to memcg /`` or ``Slab cache page``."""
        return b"".join(line for line in self._lines if not line.startswith(b" "))

    @property
    def _lines(self) -> list[bytes]:
        # Not splitlines(), which also splits bytes at \r.
        return [line + b"\n" for line in self.stacktrace.split(b"\n")[:-1]]

    @property
    def text(self) -> bytes:
        """The whole record, with the empty line at its end."""
        pfn_line = self.pfn_line + b"\n" if self.pfn_line else b""
        return b"".join((self.header, pfn_line, self.stacktrace, b"\n"))


def read_records(path: str, on_damage: OnDamage = lambda _damage: None) -> Iterator[Record]:
    """
    Yield the records of a text.

    :param path: a file, plain or compressed (gzip, xz, zstd), a pipe, or a file of the mount;
        ``-`` is standard input
    :param on_damage: called for each part that is not a complete record and is skipped
    :raises PageOwnerError: the text can't be read
    """
    with open_input(path) as text:
        walk, window = _Walk(on_damage), Window()
        while nr_bytes := text.readinto(window.room):
            if window.add(nr_bytes):
                yield from walk.records(window.text, final=False)
                window.drop(walk.used)
        yield from walk.records(window.text, final=True)


def parse_records(text: bytes, on_damage: OnDamage = lambda _damage: None) -> Iterator[Record]:
    """
    Yield the records of a text in memory.

    :param text: the complete text
    :param on_damage: as in read_records()
    """
    return _Walk(on_damage).records(memoryview(text), final=True)


class _Walk:
    """Parse a text that arrives in parts."""

    def __init__(self, on_damage: OnDamage) -> None:
        self.used = 0
        """Bytes of the last part that were parsed; pass the rest again."""
        self._on_damage = on_damage
        self._offset = 0
        self._number = 0
        self._in_damage = False

    def records(self, text: memoryview, *, final: bool) -> Iterator[Record]:
        end: int | None = 0
        while end is not None:
            start, end, found = _native.parse_page_owner(text, end, final, self._in_damage)
            # found: a record, the reason of damage, or whether damage continues at the end.
            self._in_damage = isinstance(found, str) or found is True
            if end is not None:
                self._number += 1
                if self._in_damage:
                    self._on_damage(Damage(self._offset + start, self._number, found))
                else:
                    yield Record._make(found)
        self.used = start
        self._offset += start
