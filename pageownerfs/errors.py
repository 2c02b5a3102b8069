"""
Exceptions of pageownerfs: each carries a one-line message and a command's exit code.

Exit codes of the commands (a number never changes its meaning):

====  =========================================================================
0     success
1     any other failure (PageOwnerError)
2     wrong option or operand (UsageError)
3     mounting or unmounting failed (MountError)
4     the path is not a pageownerfs mount, or not that of a pool (NotAPoolError)
5     the pool has an incompatible version (VersionMismatchError)
6     no permission for the mount or its pool (PoolAccessError)
7     the pool is out of memory (OutOfMemoryError)
8     the page is not what the caller says it is (BadPageError)
130   interrupted from the keyboard
====  =========================================================================

``page_owner_sort`` follows the kernel's tool: 1 for any error. After a signal its exit code is 128
plus the number of the signal.
"""

from typing import ClassVar, Final

PROC_ADVICE: Final = "as root, mount -t proc proc /proc"
"""Advice when a file in /proc is missing."""


class PageOwnerError(Exception):
    """
    Base class of all exceptions that pageownerfs raises.

    ``str(error)`` is one line for people: what happened, where, and what to do.
    """

    exit_code: ClassVar[int] = 1


class UsageError(PageOwnerError):
    """A command, option or operand is wrong; the message names the valid ones."""

    exit_code = 2


class MountError(PageOwnerError):
    """Mounting or unmounting failed: no libfuse, no /dev/fuse, an unsuitable or busy directory."""

    exit_code = 3


class NotAPoolError(PageOwnerError):
    """The path is not a pageownerfs mount, its daemon is gone, or its source is not a pool."""

    exit_code = 4


class VersionMismatchError(PageOwnerError):
    """The pool was created by a version with another layout of the shared memory."""

    exit_code = 5


class PoolAccessError(PageOwnerError):
    """The mount or the shared memory of the pool belongs to another user."""

    exit_code = 6


class OutOfMemoryError(PageOwnerError, MemoryError):
    """
    The pool has no free block of this order that the gfp mask may use.

    Mirrors the kernel's ``page allocation failure`` report (warn_alloc() in mm/page_alloc.c).

    :ivar order: ``unsigned int``, log2 of the number of pages requested, ``[0, 10]``
    :ivar gfp_mask: ``gfp_t`` of the request
    :ivar free: zone name -> number of free blocks of each order 0..10 at that moment
    """

    exit_code = 7

    def __init__(
        self, message: str, order: int, gfp_mask: int, free: dict[str, list[int]]
    ) -> None:
        """Store the complete message, and the values it was made from."""
        super().__init__(message)
        self.order = order
        self.gfp_mask = gfp_mask
        self.free = free

    # Without this, unpickling (which multiprocessing does) would lose the three values.
    def __reduce__(
        self,
    ) -> tuple[type["OutOfMemoryError"], tuple[str, int, int, dict[str, list[int]]]]:
        """Pickle with all arguments."""
        return type(self), (str(self), self.order, self.gfp_mask, self.free)


class BadPageError(PageOwnerError, ValueError):
    """
    The page is not what the caller says: double free, foreign PFN, wrong order, tail page.

    Mirrors ``BUG: Bad page state`` (bad_page() in mm/page_alloc.c). The pool stays intact.

    :ivar pfn: page frame number that the caller passed; it may lie outside the pool
    """

    exit_code = 8

    def __init__(self, message: str, pfn: int) -> None:
        """Store the complete message, and the page frame number."""
        super().__init__(message)
        self.pfn = pfn

    def __reduce__(self) -> tuple[type["BadPageError"], tuple[str, int]]:
        """Pickle with all arguments."""
        return type(self), (str(self), self.pfn)


class PageOwnerOffError(Exception):
    """Tracking is off, or was switched off meanwhile: there are no records.

    It never leaves a mount, which makes it the end of a file, or ENOENT.
    """
