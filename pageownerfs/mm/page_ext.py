"""
The record that says who owns a page (``struct page_owner``, mm/page_owner.c; page_ext).

The C core defines it in page_owner.h; a test compares the two.
"""

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from pageownerfs._native import Table

PAGE_EXT_OWNER_ALLOCATED: Final = 1
"""Bit of state: the page is allocated now, and the record says by whom."""
PAGE_EXT_OWNER_FREED: Final = 2
"""Bit of state: the page was freed at least once since tracking began."""
PAGE_EXT_OWNER_EARLY: Final = 4
"""Bit of state: the page was found allocated when tracking was switched on."""
PAGE_EXT_OWNER_MIGRATED: Final = 8
"""Bit of state: the page was migrated; last_migrate_reason says why."""
PAGE_EXT_OWNER_SUSPECT: Final = 16
"""Bit of state: the kernel source has found that record and page do not fit, once so far."""

TASK_COMM_LEN: Final = 16
"""Bytes of a comm with its closing NUL: the name itself has 15 at most."""
PID_MAX_LIMIT: Final = 1 << 22
"""No pid is larger (include/linux/threads.h)."""

PAGE_OWNER_STRUCT: Final = struct.Struct("<QQIiiIIiiBbBB16s")
"""The 64 bytes of a record, little-endian, without gaps."""


class PageOwner(NamedTuple):
    """
    Who owns a page: 64 bytes per page, one cache line; each page of a block has its own.

    Bytes: 0 ts_nsec u64, 8 free_ts_nsec u64, 16 gfp_mask u32, 20 pid s32, 24 tgid s32,
    28 handle u32, 32 free_handle u32, 36 free_pid s32, 40 free_tgid s32, 44 order u8,
    45 last_migrate_reason s8, 46 state u8, 47 pageblock_migratetype u8, 48 comm char[16].
    """

    ts_nsec: int
    """CLOCK_MONOTONIC at allocation, nanoseconds."""
    free_ts_nsec: int
    """CLOCK_MONOTONIC at the last free, nanoseconds; 0 = never."""
    gfp_mask: int
    """``gfp_t`` as given; 0 for early pages."""
    pid: int
    """Thread that allocated."""
    tgid: int
    """Process that allocated."""
    handle: int
    """Stack of the allocation in the stack depot; 0 = none."""
    free_handle: int
    """Stack of the last free; 0 = none."""
    free_pid: int
    """Thread that freed last."""
    free_tgid: int
    """Process that freed last."""
    order: int
    """Order of the allocation that the page is part of."""
    last_migrate_reason: int
    """``MR_*``; -1 (MR_NEVER) = never migrated."""
    state: int
    """``PAGE_EXT_OWNER_*`` bits."""
    pageblock_migratetype: int
    """``MIGRATE_*`` of the pageblock."""
    comm: bytes
    """Name of the thread that allocated: any bytes but NUL, 15 at most."""

    @classmethod
    def unpack(cls, record: bytes | bytearray | memoryview) -> "PageOwner":
        """
        Read a record.

        :param record: its 64 bytes
        :raises ValueError: another number of bytes
        """
        if len(record) != PAGE_OWNER_STRUCT.size:
            message = f"a page_owner record has {PAGE_OWNER_STRUCT.size} bytes, not {len(record)}"
            raise ValueError(message)
        *numbers, comm = PAGE_OWNER_STRUCT.unpack(record)
        return cls._make((*numbers, comm[: TASK_COMM_LEN - 1].partition(b"\0")[0]))

    def pack(self) -> bytes:
        """
        Write the record; the inverse of unpack().

        :return: 64 bytes
        :raises ValueError: a field does not fit; the message says which values there are
        """
        if len(self.comm) >= TASK_COMM_LEN or b"\0" in self.comm:
            message = f"comm {self.comm!r} is not a name of at most 15 bytes without NUL"
            raise ValueError(message)
        try:
            return PAGE_OWNER_STRUCT.pack(*self)
        except struct.error as error:
            message = f"{self} does not fit into a page_owner record: {error}"
            raise ValueError(message) from error

    @property
    def is_allocated(self) -> bool:
        """Whether the page is allocated now."""
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
        """Base pages of the allocation."""
        return 1 << self.order


class PageExt(NamedTuple):
    """What a table knows of one page: its owner, and what ``struct page`` says."""

    head: int
    """PFN of the first page of its block."""
    allocated: bool
    """Whether the block is allocated now."""
    owner: PageOwner
    """Its record."""
    flags: int
    """``page->flags``; 0: not known."""
    memcg: int
    """Number of what is said of its cgroup; 0: nothing."""
    pageblock_mt: int
    """Migratetype of the pageblock."""
    page_mt: int
    """Migratetype that the mask asked for."""

    @classmethod
    def of(cls, table: "Table", pfn: int) -> "PageExt | None":
        """
        Look a page up.

        :param table: of any source
        :param pfn: any number of 64 bits
        :return: None: it is not in the table
        """
        found = table.page(pfn)
        if found is None:
            return None
        head, allocated, record, *more = found
        return cls(head, allocated, PageOwner.unpack(record), *more)


class PageCounts(NamedTuple):
    """How many base pages of a table are in which state."""

    allocated: int
    """Allocated, and the allocation was seen."""
    early: int
    """Allocated, but nobody saw it."""
    freed: int
    """Freed since tracking began."""
    heads: int
    """Blocks, not pages, whose allocation was seen."""
