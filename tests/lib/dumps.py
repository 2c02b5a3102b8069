"""Dumps of page_owner made from a seed, as several ages of kernels print them.

``make_dump(random.Random(7))`` has what kernels print on any day; ``hostile`` adds command names
that mislead the kernel's page_owner_sort. The fields of each Record are known without parsing its
text, so that a test can say what a reader must find.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

KERNEL_BUFFER = 128 << 10
"""Largest record, without its PFN line, that the kernel's tool can hold; a longer one ends it."""
KERNEL_RECORD = 100
"""If records are smaller on average, the kernel's tool has no room for all of them."""
CMA, SLAB, VMALLOC, OTHERS = 2, 4, 8, 16  # enum ALLOCATOR_BIT
VMLINUX = b"vmlinux"
COMM_MAX = 15

_MISLEADING = re.compile(rb"\n|ts\s*[0-9]*\s*ns")


class Era(NamedTuple):
    """The output of a generation of kernels."""

    name: str
    pid: bool = False
    """The header line has a pid."""
    tgid: bool = False
    """It has a tgid and a comm."""
    ts: bool = False
    free_ts: bool = False
    memcg: bool = False
    """Records may have lines that begin with ``Charged``."""
    handle: bool = False
    """Lines ``handle: N``."""
    hex_pfn: bool = False
    names: bool = True
    """Names of mask and flags."""
    addresses: bool = False
    """Addresses stand before the symbols of a stack."""

    def tells(self, key: str) -> bool:
        """Return whether records have the key, given by its long name in --cull and --sort."""
        has = {"pid": self.pid, "tgid": self.tgid, "name": self.tgid, "alloc_ts": self.ts}
        has |= {"free": self.free_ts, "free_ts": self.free_ts}
        return has.get(key, True)


V6_12 = Era("6.12", pid=True, tgid=True, ts=True, memcg=True, handle=True, hex_pfn=True)
V6_1 = Era("6.1", pid=True, tgid=True, ts=True, free_ts=True, memcg=True)
V5_15 = Era("5.15", pid=True, ts=True, free_ts=True)
V5_10 = Era("5.10")
V4_9 = Era("4.9", addresses=True)
V3_19 = Era("3.19", names=False, addresses=True)
ERAS = (V6_12, V6_1, V5_15, V5_10, V4_9, V3_19)

PLAIN_COMMS = (b"init", b"cat", b"work", b"kworker/1:0H", b"my app (1)", b"x" * COMM_MAX)
AWKWARD_COMMS = (
    *(b"", b" ", b"\t", b"\r", b"a\rb", b"(((", b")))", b"a,b", b"a), b", b"), ts", b"ts 5"),
    *(b"ts 5 n", b"5 ns", b"[kworker]", b"(sd-pam)", b"order 3, x", b"pid 7, tgid 8", b"PFN 0x1"),
    *(b"\xff\xfe", "ä漢字é".encode(), b"\x01\x1b[31m\x7f", b"CMA slab", b"alloc_pages", b"%s%n"),
    *(b"tgid 9 (x), ts", b"ns, free_ts 1 n", b"0 times, 0 pag"),
)
"""Names that are hard to read, but that the kernel's tool reads correctly."""
HOSTILE_COMMS = (
    *(b"a) b), ts 5 ns", b"ts 12 ns", b"xts99ns", b"tsns", b"ts\t7\tns", b"), ts 1 ns, fr"),
    *(b"two\nlines", b"a\n\nb", b"\n", b"\n\n", b"\n\n\n", b"x\nPFN 0x1", b"), ts 1 ns\nPFN"),
    *(b"), ts 1 ns\n\n", b"a\n), ts 8 ns\n", b"\nPage allocated", b"\nCharged to m", b"end\n"),
    *(b"\n x+0x1/0x2", b"\r\n\r\n", b"), ts  ns\nFlags", b"\xff\n\xfe"),
)
"""Names that mislead the kernel's tool."""

_MASKS = (
    b"0xcc0(GFP_KERNEL)",
    b"0x0()",
    b"0x820(GFP_ATOMIC)",
    b"0x140dca(GFP_HIGHUSER_MOVABLE|__GFP_COMP|__GFP_ZERO)",
    b"0xd2cc0(GFP_KERNEL|__GFP_NOWARN|__GFP_NORETRY|__GFP_COMP|__GFP_NOMEMALLOC)",
    b"0x1140cca(GFP_HIGHUSER_MOVABLE|__GFP_COMP|0x1000000)",
    b"0x52dc0(GFP_KERNEL|__GFP_NOWARN|__GFP_NORETRY|__GFP_COMP|__GFP_ZERO)",
)
_FLAGS = (
    b"0x4000000000020828(uptodate|lru|owner_2|swapbacked|zone=1)",
    b"0x17ffffc0020028(uptodate|lru|swapbacked|node=0|zone=2|lastcpupid=0x1fffff)",
    b"0x4000000000000000(zone=1)",
    b"0x0()",
)
_SLAB_FLAGS = b"0x17ffffc0000200(slab|node=0|zone=2|lastcpupid=0x1fffff)"
_TYPES = (b"Unmovable", b"Movable", b"Reclaimable", b"HighAtomic", b"Isolate")
_NAMES = (
    "get_page_from_freelist __alloc_pages_noprof __folio_alloc_noprof vfs_write new_slab kmalloc "
    "shmem_get_folio_gfp.isra.0 handle_mm_fault do_syscall_64 entry_SYSCALL_64_after_hwframe "
    "vmalloc_user thread.<locals>.<lambda> größe"
)
_MODULES = (b"xfs", b"kvm_intel", b"nf_tables", b"pageownerfs.cli", b"__main__")
_BULK = (b"__alloc_pages_bulk", b"alloc_pages_bulk_noprof", b"alloc_pages_mpol")
_EXTRA = (
    b"Page has been migrated, last migrate reason: compaction",
    b"Page has been migrated, last migrate reason: numa_misplaced",
    b"Slab cache page",
)
_CHARGED = (
    b"Charged to memcg /",
    b"Charged (via objcg) to memcg system.slice",
    b"Charged to offline memcg user-1000.slice",
    b"Charged (via objcg) to offline memcg a b, c",
)


class Task(NamedTuple):
    """The task that allocated."""

    pid: int
    tgid: int
    comm: bytes


class Stack(NamedTuple):
    """Lines of a stack, innermost frame first."""

    lines: tuple[bytes, ...] = ()
    vmalloc: bool = False
    """Whether vmalloc() asked for the pages."""
    module: bytes = VMLINUX
    """The module of the innermost frame that has one."""


@dataclass(frozen=True)
class Record:
    """One record, by its fields."""

    era: Era
    order: int
    mask: bytes
    task: Task
    ts: int
    free_ts: int
    pfn: int
    stack: Stack
    extra: tuple[bytes, ...] = ()
    """Lines after the stack."""
    has_pfn: bool = True
    """Whether the record has a PFN line."""
    block_type: bytes = b"Movable"
    flags: bytes = _FLAGS[0]

    def header(self, *, with_ts: bool = True) -> bytes:
        """Return the first line; records are grouped by it, without the digits of ts."""
        parts = [b"Page allocated via order %d, mask %b" % (self.order, self.mask)]
        if self.era.pid:
            parts.append(b"pid %d" % self.task.pid)
        if self.era.tgid:
            parts.append(b"tgid %d (%b)" % self.task[1:])
        if self.era.ts:
            parts.append(b"ts %b ns" % (b"%d" % self.ts if with_ts else b""))
        if self.era.free_ts:
            parts.append(b"free_ts %d ns" % self.free_ts)
        return b", ".join(parts) + b"\n"

    @property
    def pfn_line(self) -> bytes:
        """Return ``PFN ...`` with its newline, or nothing."""
        if not self.has_pfn:
            return b""
        if not self.era.names:
            words = b"PFN %d Block %d type 1 Fallback Flags K RU L     B \n"
            return words % (self.pfn, self.pfn >> 9)
        pfn = b"%#x" % self.pfn if self.era.hex_pfn else b"%d" % self.pfn
        words = b"PFN %b type Movable Block %d type %b Flags %b\n"
        return words % (pfn, self.pfn >> 9, self.block_type, self.flags)

    @cached_property
    def stacktrace(self) -> bytes:
        """Return the text after the header and the PFN line."""
        return b"".join(line + b"\n" for line in (*self.stack.lines, *self.extra))

    @cached_property
    def whole(self) -> bytes:
        """Return the record as the kernel prints it."""
        return self.header() + self.pfn_line + self.stacktrace + b"\n"

    @property
    def cma(self) -> bool:
        """Return whether the PFN line indicates CMA."""
        return self.has_pfn and self.era.names and self.block_type == b"CMA"

    @property
    def slab(self) -> bool:
        """Return whether the PFN line indicates slab."""
        return self.has_pfn and self.era.names and self.flags == _SLAB_FLAGS

    @property
    def allocator(self) -> int:
        """Return ``enum ALLOCATOR_BIT`` of the kernel's tool."""
        bits = self.cma * CMA | self.slab * SLAB | self.stack.vmalloc * VMALLOC
        return bits or OTHERS

    @cached_property
    def misread(self) -> bool:
        """Return whether the kernel's tool misreads the record."""
        size = len(self.header()) + len(self.stacktrace)
        hostile = self.era.tgid and _MISLEADING.search(self.task.comm)
        return bool(hostile) or size > KERNEL_BUFFER - 2


@dataclass(frozen=True)
class Dump:
    """Records in the order of a dump."""

    era: Era
    records: tuple[Record, ...]

    @cached_property
    def data(self) -> bytes:
        """Return the text."""
        return b"".join(record.whole for record in self.records)

    @property
    def crlf(self) -> bytes:
        """Return the text with CRLF line ends, as another system's editor saves it."""
        assert not any(b"\n" in record.task.comm for record in self.records)
        return self.data.replace(b"\n", b"\r\n")

    def only(self, *, misread: bool) -> Dump:
        """Return a dump of the records that the kernel's tool misreads, or of the others."""
        return Dump(self.era, tuple(r for r in self.records if r.misread == misread))

    def offset(self, index: int) -> int:
        """Return the offset of a record in the data."""
        return sum(len(record.whole) for record in self.records[:index])


def _frame(rng: random.Random, name: bytes, module: bytes = b"") -> bytes:
    place = b"%b+0x%x/0x%x" % (name, rng.randrange(4096), rng.randrange(4096, 8192))
    return b" " + place + (b" [%b]" % module if module else b"")


def make_stack(rng: random.Random, era: Era, depth: int) -> Stack:
    """Make a stack of about that many frames; some are in modules, some come from vmalloc()."""
    modules = [rng.choice(_MODULES) if rng.random() < 0.15 else b"" for _ in range(depth)]
    lines = [_frame(rng, rng.choice(_NAMES.encode().split()), module) for module in modules]
    if depth and not era.addresses and rng.random() < 0.1:
        lines[0], modules[0] = b" 0xffffffffc0%06x" % rng.randrange(1 << 24), b""
    vmalloc = False
    if depth and rng.random() < 0.2:
        # The line above the first __vmalloc_node_range decides whether it is vmalloc().
        vmalloc = rng.random() < 0.7
        above = rng.choice(_BULK) if vmalloc else b"vm_area_alloc"
        at = rng.randrange(depth)
        lines[at:at] = [_frame(rng, above), _frame(rng, b"__vmalloc_node_range_noprof")]
        if rng.random() < 0.3:
            lines += [_frame(rng, b"alloc_pages"), _frame(rng, b"__vmalloc_node_range")]
    if era.addresses:
        lines = [b" [<ffffffff%08x>]%b" % (rng.randrange(1 << 32), line) for line in lines]
    return Stack(tuple(lines), vmalloc, next(filter(None, modules), VMLINUX))


class _Maker:
    """The values that the records of one dump draw from: few of each, so that groups arise."""

    def __init__(self, rng: random.Random, era: Era, comms: Sequence[bytes]) -> None:
        self.rng = rng
        self.era = era
        self.stacks = [make_stack(rng, era, rng.randrange(17)) for _ in range(rng.randint(1, 5))]
        self.stacks.append(make_stack(rng, era, 4))
        if rng.random() < 0.2:
            self.stacks.append(Stack())
        self.masks = rng.sample(_MASKS, 2)
        self.tasks = [Task(0, 0, b"swapper/0")]
        for _ in range(rng.randint(1, 5)):
            tgid = rng.choice((1, rng.randrange(2, 400), rng.randrange(1 << 22)))
            pid = tgid if rng.random() < 0.7 else rng.randrange(1, 1 << 31)
            self.tasks.append(Task(pid, tgid, rng.choice(comms)))
        self.times = [rng.randrange(1 << rng.choice((1, 30, 44, 64))) for _ in range(4)]
        # Without a PFN line, the kernel's tool uses that of the previous record.
        self.drops_pfn = rng.random() < 0.2
        self.highest_order = rng.choice((0, 3, 10))

    def extra(self) -> tuple[bytes, ...]:
        rng, era = self.rng, self.era
        lines = []
        if era.handle and rng.random() < 0.1:
            lines.append(b"handle: %d" % rng.choice((1, 7602180, (1 << 32) - 1)))
        if era.names and rng.random() < 0.2:
            lines.append(rng.choice(_EXTRA))
        if era.memcg and rng.random() < 0.4:
            lines.append(rng.choice(_CHARGED))
        return tuple(lines)

    def record(self) -> Record:
        rng, era = self.rng, self.era
        free_ts = rng.choice((0, *self.times))
        block_type, flags = b"Movable", rng.choice(_FLAGS)
        if not self.drops_pfn:
            block_type = b"CMA" if rng.random() < 0.1 else rng.choice(_TYPES)
            flags = _SLAB_FLAGS if rng.random() < 0.1 else flags
        mask = rng.choice(self.masks)
        return Record(
            era=era,
            order=rng.randint(0, self.highest_order),
            mask=mask if era.names else mask.partition(b"(")[0],
            task=rng.choice(self.tasks),
            ts=rng.choice(self.times),
            free_ts=free_ts if era.free_ts else 0,
            pfn=rng.randrange(1 << rng.choice((12, 20, 52))),
            stack=rng.choice(self.stacks),
            extra=self.extra(),
            has_pfn=not self.drops_pfn or rng.random() < 0.5,
            block_type=block_type,
            flags=flags,
        )


def make_dump(
    rng: random.Random,
    *,
    eras: Sequence[Era] = ERAS,
    hostile: bool = False,
    nr_records: int | None = None,
) -> Dump:
    """
    Make a dump.

    :param eras: the kernels to choose from
    :param hostile: add some records that the kernel's tool misreads
    :param nr_records: None for a few, or some dozens
    """
    era = rng.choice(eras)
    comms = [*PLAIN_COMMS, *rng.sample(AWKWARD_COMMS, 6)]
    if hostile:
        comms += rng.sample(HOSTILE_COMMS, 8)
    maker = _Maker(rng, era, comms)
    if nr_records is None:
        nr_records = rng.choice((0, 1, 2, 3, 5, 8, 13, 21, 34))
    records = [maker.record() for _ in range(nr_records)]
    if hostile and era.tgid and records:
        task = Task(rng.randrange(400), rng.randrange(400), rng.choice(HOSTILE_COMMS))
        at = rng.randrange(len(records))
        records[at] = replace(records[at], task=task)
    _fill(rng, records)
    return Dump(era, tuple(records))


def _fill(rng: random.Random, records: list[Record]) -> None:
    """Lengthen the stacks if records are so short that the kernel's tool has no room for them."""
    sizes = [len(record.whole) for record in records]
    while sum(sizes) < (KERNEL_RECORD + 1) * len(sizes):
        i = sizes.index(min(sizes))
        records[i] = replace(records[i], stack=make_stack(rng, records[i].era, 8))
        sizes[i] = len(records[i].whole)


def huge_record(rng: random.Random, record: Record, nr_bytes: int = KERNEL_BUFFER) -> Record:
    """Give a record a stack of at least that size, with thousands of frames."""
    stack = make_stack(rng, record.era, nr_bytes // 20)
    return replace(record, stack=stack)
