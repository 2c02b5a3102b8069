"""What a file of the mount is (View), what a directory (Directory), and what they ask (Source)."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from pageownerfs._native import RecordTable, Table
    from pageownerfs.mm.need import Need
    from pageownerfs.mm.vocabulary import Vocabulary
    from pageownerfs.mm.zone import ZoneRange


class ViewError(OSError):
    """
    What a reader or writer of a file gets: an errno that is part of the file's behaviour.

    Anything else that a view raises is a fault, which the mount logs and reports as EIO.
    """

    def __init__(self, number: int, text: str | None = None) -> None:
        """Make it from an errno; ``text`` where more is known than the errno's usual text."""
        super().__init__(number, text or os.strerror(number))


class Source(Protocol):
    """What a view may ask its source: tables, names, counters, one switch."""

    @property
    def page_owner_on(self) -> bool:
        """Whether owners are tracked."""
        ...

    @property
    def changes(self) -> bool:
        """Whether anything can change; if not, what was found once holds."""
        ...

    def lacks(self, need: Need, /) -> str | None:
        """Tell why it can't give what is needed now; None: it can."""
        ...

    def enable_page_owner(self) -> None:
        """Switch tracking on; no-op when it is on. OSError: no memory. PageOwnerError: can't."""
        ...

    def table(self) -> Table:
        """Give the owners of the pages, for a Renderer; only while tracking is on."""
        ...

    def update(self) -> None:
        """Bring the table up to date before it is read, where events don't."""
        ...

    def standing_still(self) -> AbstractContextManager[None]:
        """Let nothing change meanwhile, where that is possible. OSError EBUSY: not now."""
        ...

    def snapshot(self, max_bytes: int, /) -> RecordTable:
        """Copy the table. OSError ENOSPC: too large."""
        ...

    @property
    def vocabulary(self) -> Vocabulary:
        """Names of the numbers in records; only while tracking is on."""
        ...

    def stack_text(self, handle: int, /, *, source_lines: bool = False) -> bytes:
        """Lines of a stack; with file and line, where they are known. ValueError: no such."""
        ...

    def memcg_lines(self, memcg: int, /) -> bytes:
        """What is said of the cgroup that a page is charged to; the table has the number."""
        ...

    def stack_counts(self) -> Sequence[tuple[int, int]]:
        """Handle and nr_base_pages of each stack that has allocated, the newest first."""
        ...

    def page_state(self, pfn: int, /) -> Mapping[str, Any]:
        """Tell what is known of a page beside its record: state, refcount ... ValueError: none."""
        ...

    @property
    def boot_nsec(self) -> int | None:
        """What to add to a record's times for CLOCK_BOOTTIME; None: its processes are not ours."""
        ...

    def zone_ranges(self) -> Sequence[ZoneRange]:
        """Zones that have pages, in the order of /proc/zoneinfo."""
        ...

    def buddyinfo(self) -> Sequence[tuple[int, str, Sequence[int]]]:
        """Node, zone and free blocks by order; only if it does not lack free_areas."""
        ...

    def pagetypeinfo(self) -> str:
        """Text of /proc/pagetypeinfo before the mixed blocks; if it does not lack that."""
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
    def mode(self) -> int:
        """Permission bits, as the kernel's file has them."""
        ...

    def absent(self) -> str | None:
        """Tell why the file is not there now: it is not listed, open says ENOENT. None: it is."""
        ...

    def size(self) -> int:
        """Length in bytes of the text, a second old at most: st_size."""
        ...

    def open(self) -> OpenFile:
        """Open it."""
        ...


class Directory:
    """One directory of the mount. By itself nothing can be made in it or taken away."""

    mode = 0o555

    def absent(self) -> str | None:
        """Tell why it is not there now; None: it is."""
        return None

    def names(self) -> Iterable[str]:
        """Name what is listed now; lookup() may find more."""
        raise NotImplementedError

    def lookup(self, name: str) -> Node | None:
        """Find what has a name; None: nothing has."""
        raise NotImplementedError

    def mkdir(self, name: str) -> None:
        """Make a directory; EPERM."""
        del name
        raise ViewError(errno.EPERM)

    def rmdir(self, name: str) -> None:
        """Take a directory away; EPERM."""
        del name
        raise ViewError(errno.EPERM)


Node = View | Directory
