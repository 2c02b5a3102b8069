"""Files about fragmentation: the text of a real kernel, and the two indexes."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest
from data import KERNEL
from hypothesis import example, given
from hypothesis import strategies as st

from pageownerfs.mm.migratetype import MIGRATETYPE_NAMES
from pageownerfs.mm.vmstat import (
    format_buddyinfo,
    format_extfrag_index,
    format_mixed_blocks,
    format_pagetypeinfo,
    format_unusable_index,
    fragmentation_index,
    parse_buddyinfo,
    unusable_free_index,
)
from pageownerfs.mm.zone import MAX_PAGE_ORDER, PAGEBLOCK_ORDER, Zone

NR_PAGE_ORDERS = MAX_PAGE_ORDER + 1

BUDDYINFO = (KERNEL / "buddyinfo.txt").read_text()
PAGETYPEINFO = (KERNEL / "pagetypeinfo.txt").read_text()
EXTFRAG_INDEX = (KERNEL / "extfrag_index.txt").read_text()
UNUSABLE_INDEX = (KERNEL / "unusable_index.txt").read_text()

orders = st.integers(0, NR_PAGE_ORDERS - 1)
free_lists = st.lists(
    st.integers(0, 3) | st.integers(0, 1 << 40), min_size=NR_PAGE_ORDERS, max_size=NR_PAGE_ORDERS
)
zone_rows = st.lists(
    st.tuples(
        st.integers(0, 1023),
        st.sampled_from(["DMA", "DMA32", "Normal", "HighMem", "Movable", "Device"]),
        free_lists.map(tuple),
    ),
    max_size=4,
)


def make_zone(
    nid: int, name: str, nr_free: tuple[tuple[int, ...], ...], nr_blocks: tuple[int, ...]
) -> Zone:
    """Make a zone with these free blocks and pageblocks."""
    return Zone(nid, name, 0, 0, nr_free_by_type=nr_free, nr_blocks_by_type=nr_blocks)


def recorded_zones() -> list[Zone]:
    """Read the zones of the recorded pagetypeinfo without any function under test."""
    zones = []
    for name in ("DMA", "DMA32"):
        by_type = [
            [int(number) for number in line.split()]
            for line in re.findall(
                rf"^Node +0, zone +{name}, type +\S+(.*)", PAGETYPEINFO, re.MULTILINE
            )
        ]
        blocks, _ = re.findall(rf"^Node 0, zone +{name} (.*)", PAGETYPEINFO, re.MULTILINE)
        nr_free = tuple(zip(*by_type, strict=True))
        zones.append(make_zone(0, name, nr_free, tuple(int(number) for number in blocks.split())))
    return zones


def zone_of_node(nid: int) -> Zone:
    """Make a zone with 2 orders, 2 migratetypes and 3 pageblocks."""
    return make_zone(nid, "Normal", ((1, 2), (3, 4)), (1, 2))


def c_thousandths(index: int) -> str:
    """Return what C prints for ``%d.%03d`` of ``index / 1000`` and ``index % 1000``."""
    whole = int(Fraction(index, 1000))  # Towards zero, as in C; the remainder has the sign.
    return "%d.%03d" % (whole, index - whole * 1000)  # noqa: UP031 - C's own format


class TestOracle:
    """The text of a Linux 6.12 with page_owner, shortly after a load."""

    def test_buddyinfo(self) -> None:
        """The recorded buddyinfo is read and written again byte for byte."""
        zones = parse_buddyinfo(BUDDYINFO)
        assert zones == [
            (0, "DMA", (0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 3)),
            (0, "DMA32", (7248, 145, 88, 63, 23, 24, 16, 14, 12, 2, 362)),
        ]
        assert format_buddyinfo(zones) == BUDDYINFO

    def test_pagetypeinfo(self) -> None:
        """Our part and the section of page_owner make up the whole file."""
        zones = recorded_zones()
        text = format_pagetypeinfo(zones, MIGRATETYPE_NAMES, PAGEBLOCK_ORDER)
        mixed = format_mixed_blocks(
            [(0, "DMA", (0,) * 6), (0, "DMA32", (0,) * 6)], MIGRATETYPE_NAMES
        )
        assert text + mixed == PAGETYPEINFO

    def test_extfrag_index(self) -> None:
        """If a block of the largest order is free, nothing is fragmented."""
        assert format_extfrag_index(parse_buddyinfo(BUDDYINFO)) == EXTFRAG_INDEX

    def test_unusable_index(self) -> None:
        """
        The indexes follow from buddyinfo, except for some pages of order 0.

        The kernel printed its files one after the other while memory was in use: order 0 of DMA32
        has 7248 blocks in buddyinfo and 108 in pagetypeinfo. With about 670 fewer than in
        buddyinfo, and all other orders unchanged, each index equals the printed one.
        """
        dma, (nid, name, free_blocks) = parse_buddyinfo(BUDDYINFO)
        assert format_unusable_index([dma]) in UNUSABLE_INDEX
        fitting = [
            fewer
            for fewer in range(free_blocks[0])
            if format_unusable_index(
                [dma, (nid, name, (free_blocks[0] - fewer, *free_blocks[1:]))]
            )
            == UNUSABLE_INDEX
        ]
        assert fitting == list(range(665, 679))


@given(zone_rows)
def test_buddyinfo_reads_back(zones: list[tuple[int, str, tuple[int, ...]]]) -> None:
    """What is written can be read, even if a number is wider than its column."""
    assert parse_buddyinfo(format_buddyinfo(zones)) == zones


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("\n", id="empty line"),
        pytest.param("Node 0, zone DMA \n", id="no orders"),
        pytest.param("Node 0, zone DMA 1 x \n", id="no number"),
        pytest.param("Node 0, zone DMA -1 \n", id="negative"),
        pytest.param("Node 0, zone DMA 0.066 \n", id="an index"),
        pytest.param("Node \u0661, zone DMA 1 \n", id="foreign digit"),
        pytest.param(BUDDYINFO + "Page block order: 9\n", id="something else at the end"),
        pytest.param(PAGETYPEINFO, id="another file"),
    ],
)
def test_not_buddyinfo(text: str) -> None:
    """Text that is not buddyinfo is refused, and the error shows the line."""
    with pytest.raises(ValueError, match="buddyinfo: cannot parse the line "):
        parse_buddyinfo(text)


def test_buddyinfo_of_unequal_lines() -> None:
    """All zones of a kernel have the same orders, so a line cut short is detected."""
    with pytest.raises(ValueError, match="expected 3 orders as in the first line: 'Node 1"):
        parse_buddyinfo("Node 0, zone DMA 1 2 3 \nNode 1, zone DMA 1 2 \n")


def test_pagetypeinfo_of_two_nodes() -> None:
    """Each node has the whole text, and wide numbers are neither cut nor replaced."""
    names = ("Unmovable", "Movable")
    first, second = (
        zone_of_node(0),
        zone_of_node(1)._replace(nr_free_by_type=((100001, 2), (3, 1 << 32))),
    )
    text = format_pagetypeinfo([first, second], names, 3)
    assert text == format_pagetypeinfo([first], names, 3) + format_pagetypeinfo([second], names, 3)
    assert text.splitlines()[9:] == [
        "Page block order: 3",
        "Pages per block:  8",
        "",
        "Free pages count per migrate type at order       0      1 ",
        "Node    1, zone   Normal, type    Unmovable 100001      3 ",
        "Node    1, zone   Normal, type      Movable      2 4294967296 ",
        "",
        "Number of blocks type     Unmovable      Movable ",
        "Node 1, zone   Normal            1            2 ",
    ]


def test_no_zones() -> None:
    """Without zones there are only the headings of mixed blocks."""
    assert format_buddyinfo([]) == format_extfrag_index([]) == format_unusable_index([]) == ""
    assert format_pagetypeinfo([], MIGRATETYPE_NAMES, 9) == ""
    assert parse_buddyinfo("") == []
    assert format_mixed_blocks([], ("CMA",)) == "\nNumber of mixed blocks          CMA \n"


def test_names_for_each_migratetype() -> None:
    """A number without a name, or a name without a number, is the caller's mistake."""
    for names in (("Unmovable",), ("Unmovable", "Movable", "Reclaimable")):
        with pytest.raises(ValueError, match="zip"):
            format_pagetypeinfo([zone_of_node(0)], names, 9)
        with pytest.raises(ValueError, match=f"zone DMA: 2 migratetypes, but {len(names)} names"):
            format_mixed_blocks([(0, "DMA", (1, 2))], names)


def test_free_blocks() -> None:
    """The free blocks of all migratetypes add up to those of buddyinfo."""
    dma, dma32 = recorded_zones()
    assert dma.free_blocks == parse_buddyinfo(BUDDYINFO)[0][2]
    assert dma32.free_blocks == (108, 75, 53, 33, 7, 9, 6, 3, 6, 1, 361)


@pytest.mark.parametrize(
    ("order", "nr_free", "index", "text"),
    [
        pytest.param(1, [0, 0], 0, " 0.000", id="nothing is free"),
        pytest.param(1, [7, 1], -1000, "-1.000", id="a block is free"),
        pytest.param(0, [0, 1], -1000, "-1.000", id="a larger block is free"),
        pytest.param(1, [1000000, 0], 500, " 0.500", id="half way"),
        pytest.param(2, [2, 0, 0], 250, " 0.250", id="few pages"),
        pytest.param(10, [1 << 20, *[0] * 10], 1000, " 1.000", id="only fragmentation"),
        pytest.param(1, [1, 0], -500, " 0.-500", id="one block of half the size"),
        pytest.param(4, [1, 0, 0, 0, 0], -62, " 0.-62", id="one block, C rounds to zero"),
        pytest.param(7, [1, *[0] * 7], -7, " 0.-07", id="%03d counts the sign"),
        pytest.param(10, [1, *[0] * 10], 0, " 0.000", id="one page of 1024"),
        pytest.param(10, [0] * 9 + [2, 0], 0, " 0.000", id="two halves"),
    ],
)
def test_fragmentation_index(order: int, nr_free: list[int], index: int, text: str) -> None:
    """Index and text follow the kernel's arithmetic, even below 0."""
    assert fragmentation_index(order, nr_free) == index
    line = format_extfrag_index([(3, "Normal", nr_free)])
    assert line.startswith("Node 3, zone   Normal ")
    assert re.findall(r"[ -]\d\.-?\d+ ", line)[order] == text + " "


@given(orders, free_lists)
@example(10, [1] * 10 + [0])
def test_fragmentation_index_by_fractions(order: int, nr_free: list[int]) -> None:
    """It is 1 - (1 + free pages in blocks of this size) / blocks, in thousandths."""
    index = fragmentation_index(order, nr_free)
    if not any(nr_free):
        assert index == 0
    elif any(nr_free[order:]):
        assert index == -1000
    else:
        wanted = sum(
            Fraction(blocks, 2 ** (order - i)) for i, blocks in enumerate(nr_free[:order])
        )
        exact = 1000 - 1000 * (1 + wanted) / sum(nr_free)
        # Both divisions round the subtracted part down, so the result is slightly too high.
        assert exact <= index < exact + 2
        assert -500 <= index <= 1000


@given(orders, free_lists)
def test_unusable_free_index_by_fractions(order: int, nr_free: list[int]) -> None:
    """It is the share of the free pages in smaller blocks, rounded down."""
    if not any(nr_free):
        assert unusable_free_index(order, nr_free) == 1000
        return
    too_small = sum(blocks * 2**i for i, blocks in enumerate(nr_free) if i < order)
    free_pages = sum(blocks * 2**i for i, blocks in enumerate(nr_free))
    assert unusable_free_index(order, nr_free) == int(Fraction(too_small, free_pages) * 1000)


@given(zone_rows)
def test_index_text(zones: list[tuple[int, str, tuple[int, ...]]]) -> None:
    """Each order's index is printed as in C, after the zone's name as in buddyinfo."""
    extfrag, unusable = format_extfrag_index(zones), format_unusable_index(zones)
    rows = zip(zones, extfrag.splitlines(), unusable.splitlines(), strict=True)
    for (nid, name, nr_free), extfrag_line, unusable_line in rows:
        head = f"Node {nid}, zone {name.rjust(8)} "
        every = range(len(nr_free))
        indexes = [c_thousandths(fragmentation_index(order, nr_free)) for order in every]
        # %2d: one column more if there is no sign before the point.
        padded = [text if text.startswith("-") else f" {text}" for text in indexes]
        assert extfrag_line == head + "".join(f"{text} " for text in padded)
        indexes = [c_thousandths(unusable_free_index(order, nr_free)) for order in every]
        assert unusable_line == head + "".join(f"{text} " for text in indexes)
