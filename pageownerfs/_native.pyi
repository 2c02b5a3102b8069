"""The C core, pageownerfs/native. Its C files document the rules that it implements."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Self

from typing_extensions import Buffer

ABI_VERSION: Final[int]
PAGE_SIZE: Final[int]
MAX_PAGE_ORDER: Final[int]
PAGEBLOCK_ORDER: Final[int]
NR_CLIENTS: Final[int]

# Reasons passed to Pool._bad_page().
BAD_PFN: Final[int]  # outside the pool, or reserved
BAD_FREE: Final[int]  # not allocated: a double free, or never allocated
BAD_TAIL: Final[int]  # a tail page of an allocated block
BAD_ORDER: Final[int]  # allocated, but with another order
BAD_COMPOUND: Final[int]  # split_page() of a compound page
BAD_COUNT: Final[int]  # the reference count would overflow, or the page must not be shared here

# Kinds of text that a Renderer asks for.
TEXT_GFP: Final[int]  # value = gfp_mask -> b"0x140cca(GFP_HIGHUSER_MOVABLE|__GFP_COMP)"
TEXT_FLAGS: Final[int]  # value = the bits of page->flags that are flags -> b"head|lru"
TEXT_STACK: Final[int]  # value = handle -> b" f+0x1a/0x30 [mod]\n g+0x0/0x10 [mod]\n"
TEXT_MIGRATE_REASON: Final[int]  # value = reason -> b"compaction"
TEXT_MIGRATETYPE: Final[int]  # value = migratetype -> b"Movable"
TEXT_MEMCG: Final[int]  # value = struct page_info.memcg -> b"Charged to memcg init.scope\n"

# offsetof()/sizeof() of the shared structures, as the C compiler sees them:
# {"struct page_owner": {"": 64, "ts_nsec": 0, ...}, "struct page": {...}, ...}; "" is the size.
LAYOUT: Final[dict[str, dict[str, int]]]

class Page:
    """A block of 2^order pages. Only a Pool creates these objects."""

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
        """Create the file (O_EXCL, 0600) and map it. OSError (EEXIST, ENOSPC...), ValueError."""
    @classmethod
    def open(cls, path: str) -> Self:
        """Map an existing pool. Raises OSError; ValueError if it is not a pool of this version."""
    def close(self) -> None:
        """Free the order-0 lists, and thaw the pool if this thread has frozen it. The mapping
        stays until no buffer is in use and no other thread is in a call. Later calls raise
        ValueError, and so do calls that are waiting for other processes."""
    def alloc_pages(self, order: int = 0, gfp_mask: int = ...) -> Page: ...
    def free_pages(self, page: Page | int, order: int | None = None) -> None: ...
    def page(self, pfn: int) -> Page: ...
    def get_page(self, page: Page | int) -> None: ...
    def put_page(self, page: Page | int) -> None: ...
    def page_count(self, page: Page | int) -> int: ...
    def split_page(self, page: Page, order: int = 0) -> list[Page]: ...
    def drain_local_pages(self) -> None:
        """Free this process's order-0 lists. Raises OSError EBUSY if some pages are left."""
    # client.Pool must provide these; they return exceptions to raise.
    def _out_of_memory(self, order: int, gfp_mask: int, errnum: int) -> BaseException: ...
    def _bad_page(self, reason: int, pfn: int, order: int) -> BaseException: ...
    # Raw state, which client.Pool turns into named tuples.
    def _zone_info(self) -> list[tuple[Any, ...]]:
        """Per zone, the fields of mm.zone.Zone from start_pfn on."""
    def _client_info(self) -> list[tuple[Any, ...]]:
        """Per client, whether it is alive and the fields of client.Client; comm is bytes."""
    def _page_info(self, pfn: int, /) -> tuple[Any, ...]:
        """The fields of mm.dump_page.PageInfo; state is a number, page_owner a record or None."""
    def _stats(self) -> tuple[int, ...]:
        """The fields of client.PoolStats."""
    def depot_stack(self, handle: int) -> list[tuple[str, str, int, int, str, int]]:
        """(name, module, offset, size, filename, lineno) of each frame, innermost first. Raises
        ValueError if the handle is not that of a stack, or the stack is corrupt."""
    def freeze(self) -> None:
        """Stop the clients between two operations, until thaw(). Raises OSError EBUSY if a client
        is stopped inside an operation. Until thaw(), don't call anything else that stops clients
        or recovers dead ones."""
    def thaw(self) -> None:
        """Let the clients continue. Raises OSError EPERM if this thread has not stopped them."""
    def stack_counts(self) -> list[tuple[int, int]]:
        """(handle, nr_base_pages) of each stack that has allocated, in the order of their first
        allocations. Each allocation and free updates these counts."""
    def check(self) -> list[str]:
        """Stop the clients, check every invariant, and return the problems found."""
    # For the daemon.
    def capture_stack(self, depth: int = ..., /) -> int:
        """The handle of the caller's stack, up to depth frames; 0 if there is no depot yet."""
    def enable_page_owner(
        self, register_early: Callable[[], int], register_failure: Callable[[], int]
    ) -> list[int]:
        """Commit page_ext and the depot, stop the clients, switch tracking on, and mark all pages
        allocated before as early. Returns the number of early pages per zone. register_*() are
        called once the depot exists, and return handles of capture_stack(). OSError ENOSPC:
        nothing has changed."""
    def recover_clients(self) -> int:
        """Free what dead clients held, and return the number of these clients."""
    def report_free_pages(self) -> int:
        """Return the memory of free blocks of at least PAGEBLOCK_ORDER to the system. Returns the
        number of pages."""
    def table(self) -> PoolTable: ...

class Table:
    """The records of one source, for a Renderer: page_ext, page flags, pageblock types."""

    @property
    def start_pfn(self) -> int: ...
    @property
    def end_pfn(self) -> int: ...
    def states(self) -> tuple[int, int, int, int]:
        """The fields of mm.page_ext.PageCounts. Makes a pass over the table, without the GIL."""
    def mixed_blocks(
        self, start_pfn: int, end_pfn: int, cma: int, nid: int = -1, zone: int = -1, /
    ) -> list[int]:
        """Count the pageblocks with an owner whose mask asks for a migratetype other than the
        block's, by the block's type (8 numbers). cma: the number of the type CMA, which counts as
        Movable; -1: none. nid and zone restrict a RecordTable to those pages. Early pages of a
        KernelTable, or of a copy of one, don't count. Mirrors
        pagetypeinfo_showmixedcount_print()."""
    def count_stacks(self, *, early: bool = False) -> list[tuple[int, int, int]]:
        """(handle, nr_base_pages, ts_nsec of the oldest page) of each stack. Makes a pass over the
        table, without the GIL. early: include early pages."""
    def heads(self, pfn: int, nr: int, early: bool = True, /) -> list[int]:
        """PFNs of up to nr allocated blocks, from pfn on. early: include early pages."""
    def has_page(self, pfn: int, /) -> bool:
        """Whether page(pfn) returns something other than None."""
    def page(self, pfn: int, /) -> tuple[int, bool, bytes, int, int, int, int] | None:
        """The fields of mm.page_ext.PageExt; owner is a record of 64 bytes. None if the PFN is out
        of range or, in a RecordTable, has no record."""
    def snapshot(self, max_bytes: int, /) -> RecordTable:
        """Copy the records of allocated blocks, each consistent in itself; a RecordTable returns
        itself. Raises OSError ENOSPC if the copy would take more than max_bytes."""

class PoolTable(Table):
    """The records of a pool's pages. The mapping of the pool stays as long as its table exists."""

class KernelTable(Table):
    """The records of the running kernel's pages, which BPF programs write."""

    on: bool  # False: no records; set it to False before detaching the programs
    def __new__(
        cls,
        page_ext: Buffer,  # struct page_owner, indexed by PFN from 0
        end_pfn: int,
        pageblock_order: int,
        early: Buffer,  # a struct page_owner (64 bytes): what every early page shows
        scan: Buffer,  # struct page_scan of this table only; writable if there is a program
        prog_fd: int,  # fills in scan, run by BPF_PROG_TEST_RUN; -1: flags and memcg are unknown
        nid: tuple[int, int] = (0, 0),  # shift and bits of the node in the flags
    ) -> Self:
        """Hold the buffers and a duplicate of the program's descriptor. Raises ValueError for a
        wrong size. Pages that the program can't look up have flags 0, as without a program."""

class RecordTable(Table):
    """A list of records: of a text, of a trace, or copied from another table."""

    def __new__(
        cls,
        migratetypes: Iterable[str],  # names by number; a text may add others
        migrate_reasons: Iterable[str],
        reserved: str,  # the flag of pages that mixed_blocks() ignores
        node: str,  # the names of two fields of the flags
        zone: str,
    ) -> Self: ...
    def feed(self, text: Buffer, /, final: bool = False) -> int:
        """Read the records of a text and return the number of bytes used. Unless final, pass the
        rest again with more text after it. Releases the GIL."""
    def add(
        self, pfn: int, record: bytes, stack: bytes, free_stack: bytes, page_mt: int, /
    ) -> None:
        """Add a record (64 bytes, see PageOwner) and the lines of its stacks. Sets its handles."""
    def text(self, kind: int, value: int, /) -> bytes | None:
        """What the text had for a value, see TEXT_*; None: nothing. For a flags word it returns
        all that was printed, b"0x40(head|zone=1)", and searches all words."""
    def infos(self) -> list[tuple[int, int, int, int]]:
        """(memcg, nid, zone, fields), which records share, each once. fields has the HAS_* bits of
        the text, or 0 for records that were added or copied."""
    @property
    def nr_records(self) -> int: ...
    @property
    def nr_damaged(self) -> int: ...  # records that were skipped
    @property
    def nr_text_bytes(self) -> int: ...  # read
    @property
    def nr_stacks(self) -> int: ...
    @property
    def nr_verbatim(self) -> int: ...  # records kept as text: their fields would not reproduce it
    @property
    def nr_bytes(self) -> int: ...  # memory of the records, in bytes
    @property
    def pfn_end(self) -> int: ...  # the first PFN after all blocks
    @property
    def pageblock_order(self) -> int: ...
    @property
    def damage(self) -> list[tuple[int, int, str]]: ...  # byte, number, reason; the first 64

class Renderer:
    """Renders a table as page_owner text; caches what ``text`` returns."""

    def __init__(
        self,
        table: Table,
        text: Callable[[int, int], bytes],
        /,
        *,
        fields: int = 0,  # what to print: HAS_* and PFN_HEX; 0: as printed, or as in 6.12
        flags_mask: int = ...,  # the bits of page->flags that are flags
        flags_fields: Iterable[tuple[str, int, int, int]] = (),  # others: name, shift, width, base
    ) -> None:
        """Does not call ``text`` for what a dump has printed, except for masks with fields set."""
    def size(self, max_age_nsec: int = 0, /) -> int:
        """The current length of the whole text, in bytes. Makes a pass over the table if it has
        changed. Changes of a KernelTable can't be seen, so there the last size is reused while it
        is younger than max_age_nsec."""
    def reader(self) -> Reader: ...

class Reader:
    """One open file: a position in the text. Reads any size at any offset, one call at a time."""

    def read(self, size: int, offset: int, /) -> bytes: ...
    def read_into(self, buffer: Buffer, offset: int, /) -> int:
        """Like read(), into a writable buffer; returns the number of bytes. Releases the GIL."""
    def record(self, pfn: int, /) -> tuple[bytes, int] | None:
        """The first record at or after pfn, and the PFN after its first page; None at the end. For
        a RecordTable that is not in PFN order, these are record numbers instead of PFNs."""
    def set_filter(
        self, mode: int, nids: Iterable[int] | None, pids: Iterable[int], tgids: Iterable[int], /
    ) -> None:
        """Set what is shown from here on. mode: 0 stack, 1 handle, 2 both. nids None: all nodes.
        pids and tgids: up to 16 threads and 16 processes; if both are empty: all."""

# Bits: which fields the text of a record has. Older kernels print fewer.
HAS_PID: Final[int]
HAS_TGID: Final[int]  # and comm
HAS_TS: Final[int]
HAS_FREE_TS: Final[int]
HAS_PFN: Final[int]
PFN_HEX: Final[int]  # the PFN is hexadecimal, as since 6.7

# Bits: the allocators that the kernel's page_owner_sort distinguishes.
ALLOCATOR_CMA: Final[int]
ALLOCATOR_SLAB: Final[int]
ALLOCATOR_VMALLOC: Final[int]
ALLOCATOR_OTHERS: Final[int]

# What defines groups (as bits 1 << FIELD, up to FIELD_TS), and what they are sorted by.
FIELD_TXT: Final[int]  # the whole text except the PFN line and, without FIELD_TS, ts
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
    """f_type of fstatfs(2): the magic number of the file system of an open file."""

def parse_page_owner(
    text: Buffer, offset: int, final: bool, in_damage: bool, /
) -> tuple[int, int | None, Any]:
    """Parse one record at offset, skipping empty lines before it.

    Returns (start, end, fields of a Record); or (start, where to continue, what is damaged); or
    (start, None, in_damage) if the text ends first and more may follow. in_damage: the text before
    offset was damaged, and so is the text from there to the next record or empty line. final: no
    text follows."""

class Group:
    """Records that are alike: how many, and the fields of the first. None: not in the text."""

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
    def module(self) -> bytes: ...  # of the innermost frame with a module, or vmlinux
    @property
    def stacktrace(self) -> bytes: ...  # the lines after the header and PFN lines
    @property
    def text(self) -> bytes: ...  # without the PFN line, and without ts unless the key has it

class Groups:
    """The records of a text in groups, ordered by first appearance or as by sort()."""

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
    def nr_records(self) -> int: ...  # that passed the filters
    @property
    def nr_seen(self) -> int: ...  # that were read, including filtered and damaged ones
    @property
    def nr_damaged(self) -> int: ...
    @property
    def nr_bytes(self) -> int: ...  # of text read
    @property
    def fields(self) -> int: ...  # HAS_* bits that at least one record has
    @property
    def damage(self) -> list[tuple[int, int, str]]: ...  # byte, number, reason; the first 64
    def feed(self, text: Buffer, /, final: bool = False) -> int:
        """Read the records of a text and return the number of bytes used. Unless final, pass the
        rest again with more text after it. Releases the GIL."""
    def merge(self, other: Groups, /) -> None:
        """Add the groups of other, whose text follows this one's. other is emptied."""
    def sort(self, keys: Iterable[tuple[int, bool]], /, ties_reversed: bool = False) -> None:
        """Sort by (field, descending), most important first; then by key; then as they came."""
