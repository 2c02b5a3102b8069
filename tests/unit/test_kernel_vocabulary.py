"""The names of a kernel: recorded tables of other kernels, and those of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from data import DATA, kernel_file

from pageownerfs.errors import MountError
from pageownerfs.mm.flags import FlagName
from pageownerfs.mm.gfp import GFP_NAMES_6_12
from pageownerfs.mm.page_flags import format_page_flags, page_flag_names
from pageownerfs.sources.kernel import pseudo_fs, vocabulary
from pageownerfs.sources.kernel.btf import Btf
from pageownerfs.sources.kernel.pseudo_fs import read_tracefs
from pageownerfs.sources.kernel.vocabulary import (
    GFP_EVENT,
    KernelVocabulary,
    migrate_reason_names,
    migratetype_names,
    order_base_2,
    page_flags_fields,
    parse_gfp_names,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pageownerfs.page_owner_sort import Record


# Rows of kmem:mm_page_alloc of two kernels, as each writes them.
FORMAT_6_12 = (
    'print fmt: "... gfp_flags=%s", REC->order, (REC->gfp_flags) ? __print_flags(REC->gfp_flags, '
    '"|", {( unsigned long)((((((( gfp_t)(((((1UL))) << (10))|((((1UL))) << (11)))) | '
    "(( gfp_t)((((1UL))) << (6))) | (( gfp_t)((((1UL))) << (7))) | (( gfp_t)((((1UL))) << (20)))) "
    "| (( gfp_t)((((1UL))) << (1)))) | (( gfp_t)((((1UL))) << (3))) | (( gfp_t)0)) | "
    "(( gfp_t)((((1UL))) << (18))) | (( gfp_t)((((1UL))) << (19))) | (( gfp_t)((((1UL))) << (13)))"
    ') & ~(( gfp_t)(((((1UL))) << (10))|((((1UL))) << (11))))), "GFP_TRANSHUGE_LIGHT"}, '
    '{( unsigned long)(( gfp_t)((((1UL))) << (0))), "GFP_DMA"} ) : "none"'
)
FORMAT_5_15 = (
    '__print_flags(REC->gfp_flags, "|", {(unsigned long)((( gfp_t)(0x400u|0x800u)) | '
    '(( gfp_t)0x40u)), "GFP_NOFS"}, {(unsigned long)(( gfp_t)0x01u), "GFP_DMA"}, '
    '{(unsigned long)(( gfp_t)0), "__GFP_NOLOCKDEP"}) : "none"'
)

FLAGS_6_12 = (
    *("locked", "writeback", "referenced", "uptodate", "dirty", "lru", "head", "waiters"),
    *("active", "workingset", "owner_priv_1", "owner_2", "arch_1", "reserved", "private"),
    *("private_2", "reclaim", "swapbacked", "unevictable", "mlocked", "young", "idle"),
)
FLAGS_6_1 = (
    *("locked", "referenced", "uptodate", "dirty", "lru", "active", "workingset", "waiters"),
    *("error", "slab", "owner_priv_1", "arch_1", "reserved", "private", "private_2"),
    *("writeback", "head", "mappedtodisk", "reclaim", "swapbacked", "unevictable", "mlocked"),
    *("uncached", "hwpoison", "young", "idle"),
)


class RecordedBtf(Btf):
    """The types of another kernel, as far as its names need them."""

    def __init__(
        self,
        flags: tuple[str, ...] = FLAGS_6_12,
        nr_nodes: int = 1,
        nr_zones: int = 4,
        members: tuple[str, ...] = (),
    ) -> None:
        numbered = {f"PG_{name}": bit for bit, name in enumerate(flags)}
        aliases = {"PG_readahead": numbered["PG_reclaim"], "PG_reported": 3}
        self.enums = {
            "pageflags": numbered | {"__NR_PAGEFLAGS": len(flags)} | aliases,
            "zone_type": {"ZONE_DMA": 0, "__MAX_NR_ZONES": nr_zones},
            "migratetype": {"MIGRATE_UNMOVABLE": 0, "MIGRATE_MOVABLE": 1, "MIGRATE_TYPES": 2},
            "migrate_reason": {"MR_COMPACTION": 0, "MR_TYPES": 1},
        }
        self.nr_zonerefs = nr_nodes * nr_zones + 1
        self.members = members

    def enum(self, name: str) -> dict[str, int]:
        """Return a recorded enum."""
        return self.enums[name]

    def has_member(self, struct: str, member: str) -> bool:
        """Return whether the member was recorded."""
        return f"{struct}.{member}" in self.members

    def array_length(self, struct: str, member: str) -> int:
        """Return the length of the only array that is asked for."""
        assert (struct, member) == ("zonelist", "_zonerefs")
        return self.nr_zonerefs


@pytest.fixture(scope="module")
def running() -> Iterator[KernelVocabulary]:
    """Return the names of the running kernel; skip the test if there is no BTF."""
    try:
        types = Btf()
    except MountError as error:
        pytest.skip(f"needs readable kernel types: {error}")
    with types:
        yield KernelVocabulary(types)


# ---- gfp ----


def test_gfp_names_of_6_12() -> None:
    """The table of a kernel that computes its bits has shifts."""
    assert parse_gfp_names(FORMAT_6_12) == (
        FlagName(0x1C20CA, "GFP_TRANSHUGE_LIGHT"),
        FlagName(0x1, "GFP_DMA"),
    )


def test_gfp_names_of_5_15() -> None:
    """The table of an older kernel has hexadecimal numbers; rows that it lacks are not added."""
    assert parse_gfp_names(FORMAT_5_15) == (FlagName(0xC40, "GFP_NOFS"), FlagName(0x1, "GFP_DMA"))


def test_gfp_names_of_the_dump() -> None:
    """The recorded tracepoint has the table of 6.12, in the same order."""
    text = kernel_file("trace_formats.txt").decode()
    assert parse_gfp_names(text) == GFP_NAMES_6_12


@pytest.mark.parametrize(
    "expression",
    [
        "___GFP_DMA_BIT",
        "__import__('os')",
        "1 + 1",
        "2 ** 9999",
        "(1",
        "1 if 1 else 2",
        "0x",
        "",
        "(" * 500 + "1" + ")" * 500,
        "1.5",
    ],
)
def test_not_a_number(expression: str) -> None:
    """Only numbers with |, &, ~ and << are evaluated, and nothing else is even tried."""
    with pytest.raises(ValueError, match=r"not an expression of numbers|no gfp names"):
        parse_gfp_names(f'{{{expression}, "__GFP_X"}}')


def test_no_table() -> None:
    """A format without a table is an error."""
    with pytest.raises(ValueError, match="no gfp names"):
        parse_gfp_names('print fmt: "page=%p", REC->pfn')


def test_no_tracefs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without tracefs the built-in table is used, and this is reported."""

    def missing(path: str) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(vocabulary, "read_tracefs", missing)
    words = KernelVocabulary(RecordedBtf())
    assert words.gfp_source == "built in"
    assert words.format_gfp(0x140CCA) == "0x140cca(GFP_HIGHUSER_MOVABLE|__GFP_COMP)"


# ---- page flags ----


@pytest.mark.parametrize("text", (DATA / "page_flags.txt").read_text().splitlines())
def test_flags_of_6_12(text: str) -> None:
    """The flags of a real page_owner follow from the types of its kernel."""
    words = KernelVocabulary(RecordedBtf())
    assert words.format_page_flags(int(text.partition("(")[0], 16)) == text


def test_flags_of_the_dump(oracle_records: list[Record]) -> None:
    """The flags of every record of the complete dump do, too."""
    words = KernelVocabulary(RecordedBtf())
    for text in {str(record.flags or b"", "ascii") for record in oracle_records}:
        assert words.format_page_flags(int(text.partition("(")[0], 16)) == text


def test_flags_of_6_1() -> None:
    """Flags that later kernels lack keep their old places, with young before idle."""
    words = KernelVocabulary(RecordedBtf(FLAGS_6_1, members=("page.compound_mapcount",)))
    assert words.format_page_flags(2**26 - 1) == (
        "0x3ffffff(locked|waiters|error|referenced|uptodate|dirty|lru|active|workingset|slab"
        "|owner_priv_1|arch_1|reserved|private|private_2|writeback|head|mappedtodisk|reclaim"
        "|swapbacked|unevictable|mlocked|uncached|hwpoison|young|idle|zone=0)"
    )


def test_unknown_flags_come_last() -> None:
    """A flag of a future kernel comes after the known ones; other enumerators are left out."""
    words = KernelVocabulary(RecordedBtf((*FLAGS_6_12, "zebra", "ant")))
    assert words.format_page_flags(0x3C00001) == "0x3c00001(locked|zebra|ant|zone=0)"
    assert words.nr_pageflags == 24
    assert words.page_flag_bits["ant"] == 23
    assert "readahead" not in words.page_flag_bits


def test_page_flag_names_order() -> None:
    """The order of young and idle is the one that is asked for."""
    bits = {"young": 0, "idle": 1}
    assert [row.name for row in page_flag_names(bits)] == ["idle", "young"]
    names = page_flag_names(bits, young_before_idle=True)
    assert [row.name for row in names] == ["young", "idle"]


BALANCING = ("task_struct.numa_faults",)


@pytest.mark.parametrize(
    ("types", "nr_cpus", "flags", "text"),
    [
        pytest.param(
            RecordedBtf(nr_nodes=1024, nr_zones=5, members=BALANCING),
            8192,
            0x17FFFFC0020028,
            "node=0|zone=2|lastcpupid=0x1fffff",
            id="stock kernel",
        ),
        pytest.param(
            RecordedBtf(nr_nodes=1024, nr_zones=5, members=BALANCING),
            256,
            0x57FFF800000000,
            "node=1|zone=2|lastcpupid=0xffff",
            id="256 CPUs",
        ),
        pytest.param(
            RecordedBtf(nr_nodes=1024, nr_zones=5, members=(*BALANCING, "page._last_cpupid")),
            8192,
            0x17FFFFC0020028,
            "node=0|zone=2",
            id="lastcpupid does not fit",
        ),
        pytest.param(RecordedBtf(nr_nodes=64, nr_zones=4), 64, 2**64 - 1, "node=63|zone=3"),
        pytest.param(RecordedBtf(nr_zones=3), 64, 1 << 62, "zone=1", id="no NUMA"),
        pytest.param(RecordedBtf(nr_zones=2), 64, 1 << 63, "zone=1", id="two zones"),
        pytest.param(RecordedBtf(nr_zones=1), 64, 1 << 63, "", id="one zone"),
        pytest.param(RecordedBtf(nr_zones=4, members=BALANCING), 4, 0, "zone=0|lastcpupid=0x0"),
    ],
)
def test_fields(types: RecordedBtf, nr_cpus: int, flags: int, text: str) -> None:
    """Fields are laid out from the top by the configuration, and a field of width 0 is absent."""
    fields = page_flags_fields(types, nr_cpus)
    shown = format_page_flags(flags, fields, (FlagName(1 << 40, "none"),))
    assert shown.partition("(")[2].rstrip(")").endswith(text)
    assert len(fields) == len(text.split("|")) - (not text)


@pytest.mark.parametrize(("number", "bits"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (8192, 13)])
def test_order_base_2(number: int, bits: int) -> None:
    """The result is the number of bits that the largest index needs."""
    assert order_base_2(number) == bits


# ---- migratetypes and reasons ----


def test_migratetypes() -> None:
    """Kernels number the types that are configured; bounds are not types."""
    full = {
        "MIGRATE_UNMOVABLE": 0,
        "MIGRATE_MOVABLE": 1,
        "MIGRATE_RECLAIMABLE": 2,
        "MIGRATE_PCPTYPES": 3,
        "MIGRATE_HIGHATOMIC": 3,
        "MIGRATE_CMA": 4,
        "__MIGRATE_TYPE_END": 4,
        "MIGRATE_ISOLATE": 5,
        "MIGRATE_TYPES": 6,
    }
    names = ("Unmovable", "Movable", "Reclaimable", "HighAtomic", "CMA", "Isolate")
    assert migratetype_names(full) == names
    without_cma = full | {"MIGRATE_ISOLATE": 4, "MIGRATE_TYPES": 5}
    del without_cma["MIGRATE_CMA"]
    assert migratetype_names(without_cma) == (*names[:4], "Isolate")
    assert migratetype_names({"MIGRATE_FANCY": 0}) == ("Fancy",)


def test_migrate_reasons() -> None:
    """Reasons print as their enumerators, except for one, and another since 7.3."""
    enum = {"MR_COMPACTION": 0, "MR_SYSCALL": 1, "MR_NEW_ONE": 2, "MR_NEVER": 3, "MR_TYPES": 4}
    names = ("compaction", "syscall_or_cpuset", "new_one", "never_migrated")
    assert migrate_reason_names(enum) == names


def test_numbers_without_a_name() -> None:
    """A number that no table has is shown as a number, not as the last name of the table."""
    words = KernelVocabulary(RecordedBtf())
    assert words.nr_migratetypes == 2
    assert [words.migratetype_name(number) for number in (-1, 1, 2)] == ["-1", "Movable", "2"]
    assert [words.migrate_reason_name(number) for number in (-1, 0)] == ["-1", "compaction"]


def test_missing_enum() -> None:
    """Types that lack what every kernel has are refused by name."""
    types = RecordedBtf()
    del types.enums["migratetype"]
    with pytest.raises(MountError, match="lack the enum migratetype"):
        KernelVocabulary(types)


# ---- the running kernel ----


def test_running_kernel(running: KernelVocabulary) -> None:
    """Bits that are the same in every kernel have their names."""
    assert running.format_gfp(0x140CCA) == "0x140cca(GFP_HIGHUSER_MOVABLE|__GFP_COMP)"
    head = 1 << running.page_flag_bits["head"]
    assert running.format_page_flags(head | 1).startswith(f"{head | 1:#x}(locked|head")
    assert running.migratetype_name(1) == "Movable"
    assert running.migratetype_names.index("Isolate") == running.nr_migratetypes - 1
    assert running.migrate_reason_name(0) == "compaction"
    assert len(running.page_flag_names) == running.nr_pageflags


def mounts_and_descriptors() -> tuple[str, int]:
    """Return everything that a mount or an unclosed file would change."""
    nr_descriptors = sum(1 for _ in Path("/proc/self/fd").iterdir())
    return Path("/proc/self/mountinfo").read_text(), nr_descriptors


@pytest.mark.require("root")
def test_tracefs_leaves_nothing(
    running: KernelVocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tracefs is read without a mount, and neither a mount nor a descriptor is left."""
    if running.gfp_source != "tracefs":
        pytest.skip("needs a kernel with tracefs that root may read")
    monkeypatch.setattr(pseudo_fs, "TRACEFS_PATHS", ())
    before = mounts_and_descriptors()
    try:
        text = read_tracefs(GFP_EVENT)
    except OSError as error:
        pytest.skip(f"needs a detached mount: {error}")
    with pytest.raises(FileNotFoundError):
        read_tracefs("no/such/file")
    assert mounts_and_descriptors() == before
    assert parse_gfp_names(text) == running.gfp_names
