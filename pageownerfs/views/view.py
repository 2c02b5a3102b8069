"""Protocols of the mount's files (View, OpenFile), and the base class of its directories."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable


class ViewError(OSError):
    """
    An errno for the reader or writer of a file; part of the file's behaviour.

    The mount logs any other exception that a view raises, and reports it as EIO.
    """

    def __init__(self, number: int, text: str | None = None) -> None:
        """Make an error from an errno; ``text`` replaces the errno's usual text."""
        super().__init__(number, text or os.strerror(number))


class OpenFile(Protocol):
    """An open file of the mount. Several threads may use it."""

    def read_into(self, view: memoryview, offset: int, /) -> int:
        """
        Copy the text at ``offset`` into ``view``, which must not be used after returning.

        A short read is not the end of the file: a read may end with a record.

        :return: number of bytes; 0 at the end
        :raises ViewError: an errno for the reader
        """
        ...

    def write(self, data: bytes, offset: int) -> int:
        """Take the data of a write(); return the number of bytes.

        :raises ViewError: EINVAL: the file can't be written, or the data is wrong
        """
        ...

    def close(self) -> None:
        """Release the resources of the open file."""
        ...


class View(Protocol):
    """A file of the mount."""

    @property
    def mode(self) -> int:
        """Permission bits, those of the kernel's file."""
        ...

    def absent(self) -> str | None:
        """Return why the file is absent now (not listed, ENOENT); None if it is present."""
        ...

    def size(self) -> int:
        """Return st_size: the length of the text in bytes, reused for STAT_INTERVAL_NSEC."""
        ...

    def open(self) -> OpenFile:
        """Open the file."""
        ...


class Directory:
    """A directory of the mount; unless a subclass allows it, mkdir() and rmdir() fail."""

    mode = 0o555

    def absent(self) -> str | None:
        """Return why the directory is absent now; None if it is present."""
        return None

    def names(self) -> Iterable[str]:
        """List the names that are present now; lookup() may find more."""
        raise NotImplementedError

    def lookup(self, name: str) -> Node | None:
        """Return the node with this name; None if there is none."""
        raise NotImplementedError

    def mkdir(self, name: str) -> None:
        """Create a directory: fails with EPERM."""
        del name
        raise ViewError(errno.EPERM)

    def rmdir(self, name: str) -> None:
        """Remove a directory: fails with EPERM."""
        del name
        raise ViewError(errno.EPERM)


Node = View | Directory
