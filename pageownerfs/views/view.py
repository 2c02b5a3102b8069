"""What a file of the mount is (View), and what it may ask its source (Source)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pageownerfs._native import Table
    from pageownerfs.mm.stack_depot import Frame
    from pageownerfs.mm.vocabulary import Vocabulary


class ViewError(OSError):
    """
    What a reader or writer of a file gets: an errno that is part of the file's behaviour.

    Anything else that a view raises is a fault, which the mount logs and reports as EIO.
    """

    def __init__(self, number: int, text: str | None = None) -> None:
        """Make it from an errno; ``text`` where more is known than the errno's usual text."""
        super().__init__(number, text or os.strerror(number))


class ZoneSpan(Protocol):
    """Where a zone lies."""

    @property
    def nid(self) -> int:
        """Node."""
        ...

    @property
    def name(self) -> str:
        """DMA, Normal ..."""
        ...

    @property
    def start_pfn(self) -> int:
        """First PFN."""
        ...

    @property
    def end_pfn(self) -> int:
        """First PFN after the zone."""
        ...


class Source(Protocol):
    """What a view may ask its source: tables, names of frames, counters, one switch."""

    @property
    def page_owner_on(self) -> bool:
        """Whether owners are tracked."""
        ...

    def enable_page_owner(self) -> None:
        """Switch tracking on; no-op when it is on. OSError: no memory. PageOwnerError: can't."""
        ...

    def table(self) -> Table:
        """Give the owners of the pages, for a Renderer; only while tracking is on."""
        ...

    def stack(self, handle: int) -> Sequence[Frame]:
        """Frames of a stack of the depot, innermost first. ValueError: no such stack."""
        ...

    @property
    def vocabulary(self) -> Vocabulary:
        """Names of the numbers in records; only while tracking is on."""
        ...

    def memcg_lines(self, memcg: int) -> bytes:
        """What is said of the cgroup that a page is charged to; the table has the number."""
        ...

    @property
    def has_pagetypeinfo(self) -> bool:
        """Whether pagetypeinfo() can be asked."""
        ...

    def pagetypeinfo(self) -> tuple[str, Sequence[ZoneSpan]]:
        """Give the text of /proc/pagetypeinfo, and the zones in its order."""
        ...

    def update(self) -> None:
        """Bring the table up to date before it is read, where events don't."""
        ...

    def stats(self) -> Mapping[str, int]:
        """Counters, in the order in which they are shown."""
        ...


class OpenFile(Protocol):
    """One open() of a view: a file handle of the mount. Calls may come from several threads."""

    def read(self, size: int, offset: int) -> bytes:
        """Up to ``size`` bytes at ``offset``; empty at the end. ViewError with the errno."""
        ...

    def read_into(self, address: int, size: int, offset: int, fill: bool, /) -> int:
        """
        As read(), into memory at ``address``; number of bytes.

        :param fill: do not end with a record: fewer bytes than asked for mean the end of the file
        """
        ...

    def write(self, data: bytes, offset: int) -> int:
        """Take what was written; number of bytes. ViewError EINVAL where nothing can be."""
        ...

    def close(self) -> None:
        """Drop what the handle holds."""
        ...


class View(Protocol):
    """One file of the mount."""

    @property
    def path(self) -> str:
        """Where it is, from the root of the mount: ``/page_owner``."""
        ...

    @property
    def mode(self) -> int:
        """Permission bits, as the kernel's file has them."""
        ...

    def present(self) -> bool:
        """Whether the file is there now; if not, it is not listed and open says ENOENT."""
        ...

    def size(self) -> int:
        """Length in bytes of the text now: st_size."""
        ...

    def open(self) -> OpenFile:
        """Open it."""
        ...
