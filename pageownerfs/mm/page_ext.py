"""
The record of a page's owner (``struct page_owner`` in page_ext, mm/page_owner.c).

The C core defines the same layout in page_owner.h; a test compares the two.
"""

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from pageownerfs._native import Table

PAGE_EXT_OWNER_ALLOCATED: Final = 1
"""Bit of state: the page is allocated, and the record says by whom."""
PAGE_EXT_OWNER_FREED: Final = 2
"""Bit of state: the page was freed at least once since tracking began."""
PAGE_EXT_OWNER_EARLY: Final = 4
"""Bit of state: the page was found allocated when tracking was switched on."""
PAGE_EXT_OWNER_MIGRATED: Final = 8
"""Bit of state: the page was migrated; last_migrate_reason says why."""
PAGE_EXT_OWNER_SUSPECT: Final = 16
"""Bit of state: a scan of the kernel source found record and page to disagree, once so far."""

TASK_COMM_LEN: Final = 16
"""Bytes of a comm with its terminating NUL: the name itself has up to 15."""
PID_MAX_LIMIT: Final = 1 << 22
"""The largest possible pid (include/linux/threads.h)."""

PAGE_OWNER_STRUCT: Final = struct.Struct("<QQIiiIIiiBbBB16s")
"""Layout of a record: 64 bytes, little-endian, without padding."""


class PageOwner(NamedTuple):
    """
    The record of one page: 64 bytes, one cache line. Each page of a block has its own record.

    Bytes: 0 ts_nsec u64, 8 free_ts_nsec u64, 16 gfp_mask u32, 20 pid s32, 24 tgid s32,
    28 handle u32, 32 free_handle u32, 36 free_pid s32, 40 free_tgid s32, 44 order u8,
    45 last_migrate_reason s8, 46 state u8, 47 pageblock_migratetype u8, 48 comm char[16].
    """

    ts_nsec: int
    """CLOCK_MONOTONIC at the allocation, in nanoseconds."""
    free_ts_nsec: int
    """CLOCK_MONOTONIC at the last free, in nanoseconds; 0 = never freed."""
    gfp_mask: int
    """``gfp_t`` of the allocation; 0 for early pages."""
    pid: int
    """Thread that allocated."""
    tgid: int
    """Process that allocated."""
    handle: int
    """Stack depot handle of the allocation's stack; 0 = none."""
    free_handle: int
    """Stack depot handle of the last free's stack; 0 = none."""
    free_pid: int
    """Thread that freed last."""
    free_tgid: int
    """Process that freed last."""
    order: int
    """Order of the block that the page belongs to."""
    last_migrate_reason: int
    """``MR_*``; -1 (MR_NEVER) = never migrated."""
    state: int
    """``PAGE_EXT_OWNER_*`` bits."""
    pageblock_migratetype: int
    """``MIGRATE_*`` of the pageblock."""
    comm: bytes
    """Name of the thread that allocated: up to 15 bytes of any value except NUL."""

    @classmethod
    def unpack(cls, record: bytes | bytearray | memoryview) -> "PageOwner":
        """
        Unpack a record.

        :param record: the 64 bytes of a record
        :raises ValueError: ``record`` does not have 64 bytes
        """
        if len(record) != PAGE_OWNER_STRUCT.size:
            message = f"a page_owner record has {PAGE_OWNER_STRUCT.size} bytes, not {len(record)}"
            raise ValueError(message)
        *numbers, comm = PAGE_OWNER_STRUCT.unpack(record)
        return cls._make((*numbers, comm[: TASK_COMM_LEN - 1].partition(b"\0")[0]))

    def pack(self) -> bytes:
        """
        Pack the record; the inverse of unpack().

        :return: 64 bytes
        :raises ValueError: a value does not fit its field; the message has all values
        """
        if len(self.comm) >= TASK_COMM_LEN or b"\0" in self.comm:
            message = f"comm {self.comm!r} has more than 15 bytes, or contains a NUL"
            raise ValueError(message)
        try:
            return PAGE_OWNER_STRUCT.pack(*self)
        except struct.error as error:
            message = f"{self} does not fit into a page_owner record: {error}"
            raise ValueError(message) from error

    @property
    def is_allocated(self) -> bool:
        """Whether the page is allocated."""
        return bool(self.state & PAGE_EXT_OWNER_ALLOCATED)

    @property
    def is_freed(self) -> bool:
        """Whether the page was freed at least once since tracking began."""
        return bool(self.state & PAGE_EXT_OWNER_FREED)

    @property
    def is_early(self) -> bool:
        """Whether the page was found allocated when tracking was switched on."""
        return bool(self.state & PAGE_EXT_OWNER_EARLY)

    @property
    def nr_pages(self) -> int:
        """Number of base pages in the block."""
        return 1 << self.order


class PageExt(NamedTuple):
    """One page as a table knows it: its owner, and data from ``struct page``."""

    head: int
    """PFN of the first page of the page's block."""
    allocated: bool
    """Whether the block is allocated."""
    owner: PageOwner
    """The page's record."""
    flags: int
    """``page->flags``; 0 if unknown."""
    memcg: int
    """What memcg_lines() takes to describe the page's cgroup; 0 if nothing is known."""
    pageblock_mt: int
    """Migratetype of the pageblock."""
    page_mt: int
    """Migratetype that the gfp mask asks for."""

    @classmethod
    def of(cls, table: "Table", pfn: int) -> "PageExt | None":
        """
        Look up a page.

        :param table: a table of any source
        :param pfn: any 64-bit number
        :return: None if the page is not in the table
        """
        found = table.page(pfn)
        if found is None:
            return None
        head, allocated, record, *more = found
        return cls(head, allocated, PageOwner.unpack(record), *more)


class PageCounts(NamedTuple):
    """Number of base pages of a table in each state."""

    allocated: int
    """Pages that are allocated and whose allocation was seen."""
    early: int
    """Pages that are allocated but whose allocation was not seen."""
    freed: int
    """Pages that were freed since tracking began and are free."""
    heads: int
    """Blocks (not pages) whose allocation was seen."""
