"""buddyinfo, extfrag and pagetypeinfo agree with simple models of free and mixed blocks."""

from __future__ import annotations

import random
import re
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from data import KERNEL, PAGE_OWNER, SAMPLE, kernel_file
from mounts import mounted
from views import Shown, client, parse_shown, read_shown, said

from pageownerfs import GFP_HIGHUSER_MOVABLE, GFP_KERNEL, OutOfMemoryError, Pool

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = [pytest.mark.require("fuse", "shm"), pytest.mark.slow]

TYPES = ("Unmovable", "Movable", "Reclaimable", "HighAtomic", "CMA", "Isolate")
ZONES = ("DMA", "DMA32", "Normal", "Movable", "Device")
POOL_ZONES = ("DMA", "Normal", "Movable")
NR_ORDERS = 11
BLOCK_ORDER = 9
BUDDYINFO = re.compile(r"Node (\d+), zone +(\w+) ((?: *\d+ ){11})")
EXTFRAG = re.compile(r"Node (\d+), zone +(\w+) ((?: ?-?\d+\.\d{3} ){11})")
FREE = re.compile(r"Node +(\d+), zone +(\w+), type +(\w+) ((?: *>?\d+ ){11})")
BLOCKS = re.compile(r"Node (\d+), zone +(\w+) ((?: +\d+ )+)")
# __GFP_RECLAIMABLE, which asks for Reclaimable.
GFP_RECLAIMABLE = GFP_KERNEL | 0x10


@pytest.fixture(scope="module")
def pool_path() -> Iterator[Path]:
    """Mount a pool of three zones, where pages of all types lie in each other's blocks."""
    with mounted("pool", "size=40M", "movablecore=8M", "cma=4M", "page_owner=on") as path:
        with Pool.attach(path) as pool:
            chance, blocks = random.Random(8), []
            # Fill the pool: only then do types take blocks from each other.
            for mask in (GFP_HIGHUSER_MOVABLE, GFP_RECLAIMABLE, GFP_KERNEL):
                with suppress(OutOfMemoryError):
                    while True:
                        blocks.append(pool.alloc_pages(chance.choice((0, 0, 1, 2, 5)), mask))
                chance.shuffle(blocks)
                keep = len(blocks) // 2
                for block in blocks[keep:]:
                    pool.free_pages(block)
                del blocks[keep:]
        yield path


def lines_of(pattern: re.Pattern[str], text: str) -> list[tuple[str, ...]]:
    """Return the groups of each line; all lines must match."""
    found = [pattern.fullmatch(line) for line in text.splitlines()]
    assert all(found), text
    return [match.groups() for match in found if match]


def numbers(text: str) -> list[int]:
    """Format numbers with blanks around them."""
    return [int(word) for word in text.split()]


# ---- free blocks ----


def test_buddyinfo(pool_path: Path) -> None:
    """Free blocks by order match the pool's zones, in the layout of /proc/buddyinfo."""
    text = (pool_path / "buddyinfo").read_text()
    rows = lines_of(BUDDYINFO, text)
    with Pool.attach(pool_path) as pool:
        zones = pool.zones
    assert [(nid, name, numbers(free)) for nid, name, free in rows] == [
        ("0", zone.name, list(zone.free_blocks)) for zone in zones
    ]
    assert [zone.name for zone in zones] == list(POOL_ZONES)
    assert sum(sum(numbers(free)) for _, _, free in rows) > 20
    lines_of(BUDDYINFO, Path("/proc/buddyinfo").read_text())
    assert (pool_path / "buddyinfo").stat().st_mode & 0o7777 == 0o444
    assert (pool_path / "buddyinfo").stat().st_size == len(text)


def test_buddyinfo_follows(pool_path: Path) -> None:
    """The file is current: a large block that is taken is missing from it."""
    with Pool.attach(pool_path) as pool:
        before = (pool_path / "buddyinfo").read_text()
        page = pool.alloc_pages(3, GFP_HIGHUSER_MOVABLE)
        taken = (pool_path / "buddyinfo").read_text()
        assert nr_free(before) - nr_free(taken) == 8
        pool.free_pages(page)
        assert (pool_path / "buddyinfo").read_text() == before


def nr_free(text: str) -> int:
    """Return the number of pages in the free blocks of a buddyinfo."""
    rows = [numbers(free) for _, _, free in lines_of(BUDDYINFO, text)]
    return sum(nr << order for row in rows for order, nr in enumerate(row))


def thousandths(text: str) -> list[int]:
    """Return extfrag's numbers times 1000; kernels print the sign of -0.500 separately."""
    return [
        int(word.replace(".", "").replace("-", "")) * (-1 if "-" in word else 1)
        for word in text.split()
    ]


def fragmentation(order: int, free: Sequence[int]) -> int:
    """__fragmentation_index() of mm/vmstat.c."""
    requested, blocks = 1 << order, sum(free)
    if not blocks:
        return 0
    if any(free[order:]):
        return -1000
    pages = sum(nr << o for o, nr in enumerate(free))
    return 1000 - (1000 + pages * 1000 // requested) // blocks


def unusable(order: int, free: Sequence[int]) -> int:
    """unusable_free_index() of mm/vmstat.c."""
    pages = sum(nr << o for o, nr in enumerate(free))
    suitable = sum(nr << o for o, nr in enumerate(free) if o >= order)
    return (pages - suitable) * 1000 // pages if pages else 1000


def check_extfrag(path: Path) -> None:
    """Both files must match what follows from the numbers of buddyinfo."""
    free = {
        zone: numbers(text)
        for _, zone, text in lines_of(BUDDYINFO, (path / "buddyinfo").read_text())
    }
    for name, model in (("extfrag_index", fragmentation), ("unusable_index", unusable)):
        file = path / "extfrag" / name
        assert file.stat().st_mode & 0o7777 == 0o444
        rows = lines_of(EXTFRAG, file.read_text())
        assert [zone for _, zone, _ in rows] == list(free)
        for _, zone, text in rows:
            assert thousandths(text) == [model(order, free[zone]) for order in range(NR_ORDERS)]


def test_extfrag(pool_path: Path) -> None:
    """The indexes are right as they are, and with all large blocks taken."""
    check_extfrag(pool_path)
    with Pool.attach(pool_path) as pool:
        taken = []
        for order in (10, 9, 8, 7, 6, 5):
            free = sum(zone.free_blocks[order] for zone in pool.zones)
            # Not all: there is a reserve that not everybody may use.
            with suppress(OutOfMemoryError):
                taken += [pool.alloc_pages(order, GFP_HIGHUSER_MOVABLE) for _ in range(free)]
        check_extfrag(pool_path)
        assert taken
        for page in taken:
            pool.free_pages(page)


# ---- pagetypeinfo ----


class Info:
    """The parts of a pagetypeinfo text."""

    def __init__(self, text: str) -> None:
        """Parse the text; fail if the kernel's layout is different."""
        parts = text.split("\n\n")
        self.head = parts[0]
        rest = {part.partition("  ")[0][:22].rstrip(): part.rstrip("\n") for part in parts[1:]}
        self.free = self._section(rest, "Free pages count per m", FREE)
        self.blocks = self._section(rest, "Number of blocks type", BLOCKS)
        self.mixed = self._section(rest, "Number of mixed blocks", BLOCKS)
        self.mixed_text = rest.get("Number of mixed blocks", "")

    @staticmethod
    def _section(
        rest: dict[str, str], title: str, pattern: re.Pattern[str]
    ) -> list[tuple[str, ...]]:
        found = [part for name, part in rest.items() if name.startswith(title.rstrip())]
        if not found:
            return []
        (part,) = found
        heading, _, lines = part.partition("\n")
        if pattern is BLOCKS:
            # A kernel without CMA lacks the CMA column.
            assert heading[len(title) :].split() == [name for name in TYPES if name in heading]
        return lines_of(pattern, lines)


def test_pagetypeinfo(pool_path: Path) -> None:
    """Free blocks and pageblocks by type match the pool's zones."""
    info = Info((pool_path / "pagetypeinfo").read_text())
    assert info.head == "Page block order: 9\nPages per block:  512"
    with Pool.attach(pool_path) as pool:
        zones = pool.zones
    assert [(zone, mt, numbers(row)) for _, zone, mt, row in info.free] == [
        (zone.name, name, [by_type[mt] for by_type in zone.nr_free_by_type])
        for zone in zones
        for mt, name in enumerate(TYPES)
    ]
    assert [(zone, numbers(row)) for _, zone, row in info.blocks] == [
        (zone.name, list(zone.nr_blocks_by_type)) for zone in zones
    ]
    free = Counter[str]()
    for _, zone, _, row in info.free:
        free[zone] += sum(nr << order for order, nr in enumerate(numbers(row)))
    assert free == {zone.name: zone.nr_free for zone in zones}


def test_pagetypeinfo_layout(pool_path: Path) -> None:
    """Lines have a kernel's widths and match the same patterns."""
    here = (pool_path / "pagetypeinfo").read_text()
    there = kernel_file("pagetypeinfo.txt").decode()
    assert Info(there).mixed
    for start in ("Page", "Pages", "Free", "Number", "Node    0", "Node 0,"):
        widths = [
            {len(line) for line in text.splitlines() if line.startswith(start)}
            for text in (here, there)
        ]
        assert widths[0] == widths[1], start
    live = Path("/proc/pagetypeinfo")
    try:
        text = live.read_text()
    except OSError:
        return
    assert Info(text).free


# ---- mixed blocks ----


def mixed_model(records: Sequence[Shown]) -> Counter[tuple[str, str]]:
    """
    Count mixed pageblocks by zone and block type.

    :param records: in the order of their PFNs; their flags number the zones
    """
    counts: Counter[tuple[str, str]] = Counter()
    next_pfn: dict[str, int] = {}
    done: set[tuple[str, int]] = set()
    for record in records:
        found = re.search(rb"[(|]zone=(\d+)[|)]", record.flags)
        zone = found[1].decode() if found else "0"
        if record.pfn < next_pfn.get(zone, 0) or (zone, record.block) in done:
            continue
        if re.search(rb"[(|]reserved[|)]", record.flags):
            continue
        next_pfn[zone] = record.pfn + record.nr_pages
        if record.page_mt != record.block_mt:
            # Tail pages have an owner, too, so every pageblock of a larger block is mixed.
            for block in range(record.block, ((next_pfn[zone] - 1) >> BLOCK_ORDER) + 1):
                counts[zone, "Movable" if record.block_mt == "CMA" else record.block_mt] += 1
                done.add((zone, block))
    return counts


def shown_mixed(mnt: Path, zones: Sequence[str]) -> dict[tuple[str, str], int]:
    """Return the file's nonzero numbers, by zone number and type."""
    info = Info((mnt / "pagetypeinfo").read_text())
    assert info.mixed
    return {
        (str(zones.index(zone)), mt): nr
        for _, zone, row in info.mixed
        for mt, nr in zip(TYPES, numbers(row), strict=True)
        if nr
    }


def test_mixed_of_a_pool(pool_path: Path) -> None:
    """The mixed blocks of a pool follow from its records."""
    records = read_shown(pool_path)
    model = mixed_model(records)
    assert shown_mixed(pool_path, POOL_ZONES) == model
    assert sum(model.values()) > 3
    # Each allocates its own pages: a page of another type makes a block mixed.
    with Pool.attach(pool_path) as pool:
        for mask in (GFP_RECLAIMABLE, GFP_HIGHUSER_MOVABLE, GFP_KERNEL) * 4:
            pool.alloc_pages(0, mask)
            assert shown_mixed(pool_path, POOL_ZONES) == mixed_model(read_shown(pool_path))


def test_mixed_of_early_pages() -> None:
    """Early pages have the mask 0, which means Unmovable, as in the kernel."""
    with mounted("pool", "size=64M") as path, Pool.attach(path) as pool:
        for _ in range(600):
            pool.alloc_pages(0, GFP_HIGHUSER_MOVABLE)
        (path / "page_owner_on").write_text("1")
        model = mixed_model(read_shown(path))
        assert shown_mixed(path, POOL_ZONES) == model
        assert sum(nr for (_, mt), nr in model.items() if mt == "Movable") >= 1


def random_dump(chance: random.Random) -> bytes:
    """Make records of several zones, orders and types, in the order of their PFNs."""
    text, pfn = [], chance.randrange(1 << 12)
    block_types: dict[int, str] = {}
    spread = chance.choice((1, 30, 300, 2000))
    orders = chance.choice(((0,), (0, 1, 3), (0, 3, 9, 10), (9, 10, 11, 12)))
    boundary = pfn + spread * 60
    for _ in range(chance.choice((1, 40, 400))):
        order = chance.choice(orders)
        pfn = (pfn + chance.randrange(spread) + (1 << order) - 1) >> order << order
        block = pfn >> BLOCK_ORDER
        block_mt = block_types.setdefault(block, chance.choice(TYPES))
        page_mt = block_mt if chance.random() < 0.7 else chance.choice(TYPES[:3])
        zone = chance.choice((0, 1)) if spread == 30 else int(pfn > boundary) + 1
        names = chance.choice(("uptodate|lru|", "reserved|", "head|", "", ""))
        text.append(
            f"Page allocated via order {order}, mask 0xcc0(GFP_KERNEL), pid 1, tgid 1 (x), "
            f"ts 1 ns\nPFN {pfn:#x} type {page_mt} Block {block} type {block_mt} "
            f"Flags {zone << 62 | 1:#x}({names}zone={zone})\n f+0x1/0x2\n\n"
        )
        pfn += 1 << order
    return "".join(text).encode()


@pytest.mark.parametrize("seed", range(12))
def test_mixed_of_dumps(tmp_path: Path, seed: int) -> None:
    """The mixed blocks of a dump follow from its records, for all types, orders and zones."""
    text = random_dump(random.Random(seed))
    (tmp_path / "saved").write_bytes(text)
    with mounted(f"dump:{tmp_path / 'saved'}") as path:
        assert shown_mixed(path, ZONES) == mixed_model(parse_shown(text))
        assert (path / "page_owner").read_bytes() == text


@pytest.mark.slow
def test_mixed_of_the_oracle() -> None:
    """For a real kernel's dump, the section equals what the kernel printed."""
    there = Info((KERNEL / "pagetypeinfo.txt").read_text())
    with mounted(f"dump:{PAGE_OWNER}") as path:
        text = (path / "pagetypeinfo").read_text()
        here = Info(text)
        assert here.head == there.head
        assert here.mixed_text == there.mixed_text
        assert len(here.mixed) == 2
        assert not mixed_model(read_shown(path))


def test_dump_has_no_free_blocks() -> None:
    """A dump has no files about free blocks, and shows only its mixed ones."""
    with mounted(f"dump:{SAMPLE}") as path:
        info = Info((path / "pagetypeinfo").read_text())
        assert not info.free
        assert not info.blocks
        assert info.mixed
        assert not (path / "buddyinfo").exists()
        assert not (path / "extfrag").exists()


def test_other_processes_pages(pool_path: Path) -> None:
    """Pages that another process takes are missing from the files at the same moment."""
    code = (
        "import sys; from pageownerfs import Pool\n"
        "with Pool.attach(sys.argv[1]) as pool:\n"
        "    page = pool.alloc_pages(2)\n    print(page.pfn, flush=True)\n"
        "    sys.stdin.read()\n    pool.free_pages(page)\n"
    )
    before = (pool_path / "buddyinfo").read_text()
    with client(code, pool_path) as child:
        said(child)
        assert (pool_path / "buddyinfo").read_text() != before
        check_extfrag(pool_path)
    assert (pool_path / "buddyinfo").read_text() == before
