"""What a file of the mount is (View), and what a directory (Directory)."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable


class ViewError(OSError):
    """
    What a reader or writer of a file gets: an errno that is part of the file's behaviour.

    Anything else that a view raises is a fault, which the mount logs and reports as EIO.
    """

    def __init__(self, number: int, text: str | None = None) -> None:
        """Make it from an errno; ``text`` where more is known than the errno's usual text."""
        super().__init__(number, text or os.strerror(number))


class OpenFile(Protocol):
    """One open() of a view: a file handle of the mount. Calls may come from several threads."""

    def read_into(self, view: memoryview, offset: int, /) -> int:
        """
        Write what stands at ``offset`` into ``view``, which is gone when this returns.

        Fewer bytes than fit need not be the end: a read may end with a record.

        :return: number of bytes; 0: the end
        :raises ViewError: with the errno
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
        """Length in bytes of the text, STAT_INTERVAL_NSEC old at most: st_size."""
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
