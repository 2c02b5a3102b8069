"""Types of the C core (pageownerfs/native); the C files hold the documentation of each rule."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Self

from typing_extensions import Buffer

ABI_VERSION: Final[int]
PAGE_SIZE: Final[int]
MAX_PAGE_ORDER: Final[int]
PAGEBLOCK_ORDER: Final[int]
NR_CLIENTS: Final[int]

# Reasons that Pool._bad_page gets.
BAD_PFN: Final[int]  # outside of the pool, or reserved
BAD_FREE: Final[int]  # the page is free: a double free, or it was never allocated
BAD_TAIL: Final[int]  # a tail page of an allocated block
BAD_ORDER: Final[int]  # allocated, but with another order
BAD_COMPOUND: Final[int]  # split_page of a compound page
BAD_COUNT: Final[int]  # reference count would overflow, or page is shared where it must not be

# Kinds of text that a Renderer asks for.
TEXT_GFP: Final[int]  # value = gfp_mask -> b"0x140cca(GFP_HIGHUSER_MOVABLE|__GFP_COMP)"
TEXT_FLAGS: Final[int]  # value = page->flags, those bits that are flags -> b"head|lru"
TEXT_STACK: Final[int]  # value = handle -> b" f+0x1a/0x30 [mod]\n g+0x0/0x10 [mod]\n"
TEXT_MIGRATE_REASON: Final[int]  # value = reason -> b"compaction"
TEXT_MIGRATETYPE: Final[int]  # value = migratetype -> b"Movable"
TEXT_MEMCG: Final[int]  # value = struct page_info.memcg -> b"Charged to memcg init.scope\n"

# offsetof()/sizeof() of the shared structures, as the C compiler sees them:
# {"struct page_owner": {"": 64, "ts_nsec": 0, ...}, "struct page": {...}, ...}; "" is the size
LAYOUT: Final[dict[str, dict[str, int]]]

class Page:
    """A block of 2^order pages. Made by Pool only."""

    @property
    def pfn(self) -> int: ...
    @property
    def order(self) -> int: ...
    @property
    def buffer(self) -> memoryview: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

class Pool:
    """One attachment to a pool's shared memory; client.Pool subclasses it."""

    @property
    def path(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    @property
    def nr_pages(self) -> int: ...  # PFNs are [0, nr_pages)
    @property
    def managed_pages(self) -> int: ...
    @property
    def page_owner_on(self) -> bool: ...
    @property
    def stack_depth(self) -> int: ...
    @classmethod
    def create(
        cls,
        path: str,
        size: int,  # bytes of managed memory
        movablecore: int,  # bytes of it in zone Movable
        cma: int,  # bytes of zone Normal in CMA pageblocks
        stack_depth: int,  # 1..64
        stack_depot_bytes: int,
    ) -> Self:
        """Make the file (O_EXCL, 0600) and map it. OSError (EEXIST, ENOSPC...), ValueError."""
    @classmethod
    def open(cls, path: str) -> Self:
        """Map an existing pool. OSError; ValueError: no pool, or of another version."""
    def close(self) -> None:
        """Give the order-0 lists back, and thaw what this thread has frozen. The mapping goes with
        the last buffer in use, and the last call that another thread is in; later calls, and those
        that wait for other processes, raise ValueError."""
    def alloc_pages(self, order: int = 0, gfp_mask: int = ...) -> Page: ...
    def free_pages(self, page: Page | int, order: int | None = None) -> None: ...
    def page(self, pfn: int) -> Page: ...
    def get_page(self, page: Page | int) -> None: ...
    def put_page(self, page: Page | int) -> None: ...
    def page_count(self, page: Page | int) -> int: ...
    def split_page(self, page: Page, order: int = 0) -> list[Page]: ...
    def drain_local_pages(self) -> None:
        """Give this process's order-0 lists back. OSError EBUSY: not all of them."""
    # What client.Pool must provide: exceptions to raise.
    def _out_of_memory(self, order: int, gfp_mask: int, errnum: int) -> BaseException: ...
    def _bad_page(self, reason: int, pfn: int, order: int) -> BaseException: ...
    # Looking: what client.Pool gives names to.
    def _zone_info(self) -> list[tuple[Any, ...]]:
        """Per zone what mm.zone.Zone has, from start_pfn on."""
    def _client_info(self) -> list[tuple[Any, ...]]:
        """Per client whether it lives, and what client.Client has; comm in bytes."""
    def _page_info(self, pfn: int, /) -> tuple[Any, ...]:
        """What mm.dump_page.PageInfo has; state is a number, page_owner a record or None."""
    def _stats(self) -> tuple[int, ...]:
        """What client.PoolStats has."""
    def depot_stack(self, handle: int) -> list[tuple[str, str, int, int, str, int]]:
        """(name, module, offset, size, filename, lineno), innermost first. ValueError: corrupt."""
    def freeze(self) -> None:
        """Stop the clients between two operations, until thaw(). OSError EBUSY: one is stopped
        inside of one. What else stops clients, or recovers dead ones, must not be called."""
    def thaw(self) -> None:
        """Let the clients go on. OSError EPERM: this thread has not stopped them."""
    def stack_counts(self) -> list[tuple[int, int]]:
        """(handle, nr_base_pages) of each stack that has allocated, the oldest first: kept with
        each allocation and free."""
    def check(self) -> list[str]:
        """Stop the clients, check every invariant, let them go on; the problems found."""
    # For the daemon.
    def capture_stack(self, depth: int = ..., /) -> int:
        """Handle of the caller's stack, of depth frames at most. 0: the depot does not exist."""
    def enable_page_owner(
        self, register_early: Callable[[], int], register_failure: Callable[[], int]
    ) -> list[int]:
        """Commit page_ext and the depot, stop the clients, switch tracking on, mark the pages
        allocated before as early; number of early pages per zone. register_*() return handles
        (capture_stack), called once the depot exists. OSError ENOSPC: nothing changed."""
    def recover_clients(self) -> int:
        """Return the order-0 lists of dead clients; their number."""
    def report_free_pages(self) -> int:
        """Give free blocks of PAGEBLOCK_ORDER and more to the system; pages given."""
    def table(self) -> PoolTable: ...

class Table:
    """What a Renderer reads of one source: page_ext, page flags, pageblock types."""

    @property
    def start_pfn(self) -> int: ...
    @property
    def end_pfn(self) -> int: ...
    def states(self) -> tuple[int, int, int, int]:
        """What mm.page_ext.PageCounts has. A pass over the table, without the GIL."""
    def mixed_blocks(
        self, start_pfn: int, end_pfn: int, cma: int, nid: int = -1, zone: int = -1, /
    ) -> list[int]:
        """Pageblocks with an owner whose mask asks for another type than the block's, by the
        block's type (8 numbers). cma: number of that type, which counts as Movable; -1: none.
        nid, zone: of a RecordTable only those pages. Early pages of a KernelTable, and of a copy
        of one, don't count. Mirrors pagetypeinfo_showmixedcount_print()."""
    def count_stacks(self, *, early: bool = False) -> list[tuple[int, int, int]]:
        """(handle, nr_base_pages, ts_nsec of the oldest) of each stack; a pass over the table,
        without the GIL. early: early pages, too."""
    def heads(self, pfn: int, nr: int, early: bool = True, /) -> list[int]:
        """PFNs of the allocated blocks from pfn on, nr of them at most; early ones too, or not."""
    def has_page(self, pfn: int, /) -> bool:
        """Whether page(pfn) gives something."""
    def page(self, pfn: int, /) -> tuple[int, bool, bytes, int, int, int, int] | None:
        """What mm.page_ext.PageExt has; its owner is a record of 64 bytes. None: PFN out of range,
        or, of a RecordTable, without record."""
    def snapshot(self, max_bytes: int, /) -> RecordTable:
        """Copy the records of allocated blocks, each whole; a RecordTable gives itself. OSError
        ENOSPC: it would take more."""

class PoolTable(Table):
    """The pages of a pool, whose mapping stays for as long as its table."""

class KernelTable(Table):
    """The pages of the running kernel: a table that BPF programs write."""

    on: bool  # False: no record is there; so it must be before the programs are detached
    def __new__(
        cls,
        page_ext: Buffer,  # struct page_owner by PFN, from 0 on
        end_pfn: int,
        pageblock_order: int,
        early: Buffer,  # a struct page_owner: what each early page shows; 64 bytes
        scan: Buffer,  # struct page_scan; of one table only. Writable if there is a program
        prog_fd: int,  # fills it in, by BPF_PROG_TEST_RUN; -1: no flags and no memcg are known
        nid: tuple[int, int] = (0, 0),  # shift and bits of the node in the flags
    ) -> Self:
        """Hold the buffers and a descriptor of the program; ValueError: a wrong size. Flags of
        pages that the program can't be asked for are 0, as with -1."""

class RecordTable(Table):
    """Records one after the other: of a text, of a trace, or copied from another table."""

    def __new__(
        cls,
        migratetypes: Iterable[str],  # names by number; what a text has of others is added
        migrate_reasons: Iterable[str],
        reserved: str,  # the flag of pages that are not counted among mixed_blocks()
        node: str,  # names of fields of the flags
        zone: str,
    ) -> Self: ...
    def feed(self, text: Buffer, /, final: bool = False) -> int:
        """Take the records of a text; bytes used. The rest must come again, with more behind it,
        unless final. Releases the GIL."""
    def add(
        self, pfn: int, record: bytes, stack: bytes, free_stack: bytes, page_mt: int, /
    ) -> None:
        """Add a record (64 bytes, see PageOwner; handles are set) with the lines of its stacks."""
    def text(self, kind: int, value: int, /) -> bytes | None:
        """What the text had for a value, see TEXT_*; None: nothing. For a flags word all of what
        was printed, b"0x40(head|zone=1)": that is looked for among all words."""
    def infos(self) -> list[tuple[int, int, int, int]]:
        """What records share: (memcg, nid, zone, fields), each once; fields: HAS_* bits of what
        was printed, 0 of those that were added or copied."""
    @property
    def nr_records(self) -> int: ...
    @property
    def nr_damaged(self) -> int: ...  # records that were skipped
    @property
    def nr_text_bytes(self) -> int: ...  # read
    @property
    def nr_stacks(self) -> int: ...
    @property
    def nr_verbatim(self) -> int: ...  # records whose text is kept: fields would not give it back
    @property
    def nr_bytes(self) -> int: ...  # memory of the records
    @property
    def pfn_end(self) -> int: ...  # the first PFN behind all blocks
    @property
    def pageblock_order(self) -> int: ...
    @property
    def damage(self) -> list[tuple[int, int, str]]: ...  # byte, number, reason; the first 64

class Renderer:
    """Turns a table into page_owner text; caches the texts that it asks ``text`` for."""

    def __init__(
        self,
        table: Table,
        text: Callable[[int, int], bytes],
        /,
        *,
        fields: int = 0,  # HAS_* and PFN_HEX, what to print; 0: as it was printed, or as 6.12 does
        flags_mask: int = ...,  # the bits of page->flags that are flags
        flags_fields: Iterable[tuple[str, int, int, int]] = (),  # name, shift, width, base: others
    ) -> None:
        """What was printed in a dump is not asked for; gfp masks are, where fields is not 0."""
    def size(self, max_age_nsec: int = 0, /) -> int:
        """Length in bytes of the whole text now; a pass over the table if that has changed. Of a
        KernelTable nobody knows whether it has: there the last size will do while it is younger
        than max_age_nsec."""
    def reader(self) -> Reader: ...

class Reader:
    """One open file: a position in the text. Any offset, any size; calls exclude each other."""

    def read(self, size: int, offset: int, /) -> bytes: ...
    def read_into(self, buffer: Buffer, offset: int, /) -> int:
        """As read(), into a writable buffer; number of bytes. Releases the GIL."""
    def record(self, pfn: int, /) -> tuple[bytes, int] | None:
        """The first record at or after pfn, and the PFN behind its first page; None at the end.
        Where a RecordTable has no order, PFNs are numbers of records here."""
    def set_filter(
        self, mode: int, nids: Iterable[int] | None, pids: Iterable[int], tgids: Iterable[int], /
    ) -> None:
        """What is shown from here on. mode: 0 stack, 1 handle, 2 both. nids None: all nodes. pids
        and tgids: threads or processes, 16 of each at most; none of both: all."""

# Bits of what a page_owner text tells of a record; kernels of some age do not.
HAS_PID: Final[int]
HAS_TGID: Final[int]  # and comm
HAS_TS: Final[int]
HAS_FREE_TS: Final[int]
HAS_PFN: Final[int]
PFN_HEX: Final[int]  # it is hexadecimal, as since 6.7

# Bits, as the kernel's page_owner_sort tells allocators apart.
ALLOCATOR_CMA: Final[int]
ALLOCATOR_SLAB: Final[int]
ALLOCATOR_VMALLOC: Final[int]
ALLOCATOR_OTHERS: Final[int]

# What groups are made by (as bits 1 << FIELD, up to FIELD_TS) and sorted by.
FIELD_TXT: Final[int]  # the whole text but the PFN line, and ts unless FIELD_TS is there too
FIELD_STACKTRACE: Final[int]
FIELD_PID: Final[int]
FIELD_TGID: Final[int]
FIELD_COMM: Final[int]
FIELD_FREE: Final[int]
FIELD_ALLOCATOR: Final[int]
FIELD_MODULE: Final[int]
FIELD_TS: Final[int]
FIELD_FREE_TS: Final[int]
FIELD_TIMES: Final[int]
FIELD_PAGES: Final[int]

def filesystem_type(fd: int, /) -> int:
    """f_type of fstatfs(2): the magic number of the file system that an open file is in."""

def parse_page_owner(
    text: Buffer, offset: int, final: bool, in_damage: bool, /
) -> tuple[int, int | None, Any]:
    """What stands at offset, behind empty lines; where it starts comes first.

    (start, end, fields of a Record), (start, where to go on, what is damaged), or, where the text
    may go on but ends, (start, None, in_damage). in_damage: what stands before was damaged, and
    what follows up to the next record or empty line is, too. final: nothing follows the text."""

class Group:
    """Records that are alike: how many, and what the first one says. None: the text does not."""

    @property
    def times(self) -> int: ...
    @property
    def pages(self) -> int: ...
    @property
    def order(self) -> int: ...
    @property
    def mask(self) -> bytes: ...
    @property
    def pid(self) -> int | None: ...
    @property
    def tgid(self) -> int | None: ...
    @property
    def comm(self) -> bytes | None: ...
    @property
    def ts_nsec(self) -> int | None: ...
    @property
    def free_ts_nsec(self) -> int | None: ...
    @property
    def allocator(self) -> int: ...  # ALLOCATOR_* bits
    @property
    def module(self) -> bytes: ...  # of the innermost frame that has one, or vmlinux
    @property
    def stacktrace(self) -> bytes: ...  # what stands behind header and PFN line
    @property
    def text(self) -> bytes: ...  # as grouped: without PFN line, and ts unless that is in the key

class Groups:
    """The records of a text by groups: in the order in which they came, or that of sort()."""

    def __new__(
        cls,
        key: int,  # bits 1 << FIELD_*
        pids: Iterable[int] | None = None,
        tgids: Iterable[int] | None = None,
        comms: Iterable[bytes] | None = None,
        modules: Iterable[bytes] | None = None,
        unreleased: bool = False,
    ) -> Self: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Group: ...
    def __iter__(self) -> Iterator[Group]: ...
    @property
    def nr_records(self) -> int: ...  # that the filters let through
    @property
    def nr_seen(self) -> int: ...  # that were read, those not let through and damaged ones too
    @property
    def nr_damaged(self) -> int: ...
    @property
    def nr_bytes(self) -> int: ...  # of text read
    @property
    def fields(self) -> int: ...  # HAS_* bits of what any record has
    @property
    def damage(self) -> list[tuple[int, int, str]]: ...  # byte, number, reason; the first 64
    def feed(self, text: Buffer, /, final: bool = False) -> int:
        """Take the records of a text; bytes used. The rest must come again, with more behind it,
        unless final. Releases the GIL."""
    def merge(self, other: Groups, /) -> None:
        """Add the groups of another one, of text that stands behind; that one is empty then."""
    def sort(self, keys: Iterable[tuple[int, bool]], /, ties_reversed: bool = False) -> None:
        """By (field, descending), the most important first; then by the key, then as they came."""
