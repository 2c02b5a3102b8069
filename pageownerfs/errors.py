"""
Errors of pageownerfs: each carries one clear line and the exit code of a command that it ends.

Exit codes of the commands; a number is never given another meaning:

====  =========================================================================
0     success
1     any other failure (PageOwnerError)
2     wrong use of a command: option, argument (UsageError)
3     the mount cannot be made or ended (MountError)
4     the path is no mount of pageownerfs, or not one of a pool (NotAPoolError)
5     the pool speaks another version (VersionMismatchError)
6     no permission for the mount or its pool (PoolAccessError)
7     the pool is out of memory (OutOfMemoryError)
8     a page that is not what the caller says it is (BadPageError)
130   interrupted from the keyboard
====  =========================================================================

``page_owner_sort`` has the kernel tool's: 1 for any error. And 128 + number after a signal.
"""

from typing import ClassVar, Final

PROC_ADVICE: Final = "as root, mount -t proc proc /proc"
"""What to do where a file of /proc is not there."""


class PageOwnerError(Exception):
    """
    Base of all errors that pageownerfs raises on purpose.

    ``str(error)`` is one line for people: what is wrong, where, and what to do.
    """

    exit_code: ClassVar[int] = 1


class UsageError(PageOwnerError):
    """A command or an option that makes no sense as given; names the possible ones."""

    exit_code = 2


class MountError(PageOwnerError):
    """The mount cannot be made or ended: no libfuse, no /dev/fuse, mount point unfit or busy."""

    exit_code = 3


class NotAPoolError(PageOwnerError):
    """The path is no mount of pageownerfs, a dead one, or one whose source is not a pool."""

    exit_code = 4


class VersionMismatchError(PageOwnerError):
    """The pool was made by a version whose shared memory is laid out in another way."""

    exit_code = 5


class PoolAccessError(PageOwnerError):
    """The mount or the shared memory of the pool belongs to another user."""

    exit_code = 6


class OutOfMemoryError(PageOwnerError, MemoryError):
    """
    No free block of the order was left where the mask allows one.

    Mirrors the kernel's ``page allocation failure`` report (warn_alloc() in mm/page_alloc.c).

    :ivar order: ``unsigned int``, log2 of the pages asked for, ``[0, 10]``
    :ivar gfp_mask: ``gfp_t``, as given
    :ivar free: name of the zone -> number of free blocks of each order 0..10 at that moment
    """

    exit_code = 7

    def __init__(
        self, message: str, order: int, gfp_mask: int, free: dict[str, list[int]]
    ) -> None:
        """Take the whole line to show, and the facts it was made of."""
        super().__init__(message)
        self.order = order
        self.gfp_mask = gfp_mask
        self.free = free

    # Without this, unpickling (multiprocessing hands errors on) would lack the three facts.
    def __reduce__(
        self,
    ) -> tuple[type["OutOfMemoryError"], tuple[str, int, int, dict[str, list[int]]]]:
        """Pickle with all arguments."""
        return type(self), (str(self), self.order, self.gfp_mask, self.free)


class BadPageError(PageOwnerError, ValueError):
    """
    A page that is not what the caller says: double free, foreign PFN, wrong order, tail page.

    Mirrors ``BUG: Bad page state`` (bad_page() in mm/page_alloc.c); the pool stays intact.

    :ivar pfn: page frame number as given, which may lie outside of the pool
    """

    exit_code = 8

    def __init__(self, message: str, pfn: int) -> None:
        """Take the whole line to show, and the page."""
        super().__init__(message)
        self.pfn = pfn

    def __reduce__(self) -> tuple[type["BadPageError"], tuple[str, int]]:
        """Pickle with all arguments."""
        return type(self), (str(self), self.pfn)
