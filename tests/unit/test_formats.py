"""Output formats: the differences between kernels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageownerfs.mm.flags import FlagName
from pageownerfs.mm.formats import DEFAULT_FORMAT, FORMATS, reorder_gfp_names
from pageownerfs.mm.gfp import GFP_NAMES_6_1, GFP_NAMES_6_12, GFP_NAMES_NEXT, decode_gfp

# The order of 6.1, written separately from the table under test.
ORDER_6_1 = [
    *("GFP_TRANSHUGE", "GFP_TRANSHUGE_LIGHT", "GFP_HIGHUSER_MOVABLE"),
    *("GFP_HIGHUSER", "GFP_USER", "GFP_KERNEL_ACCOUNT", "GFP_KERNEL", "GFP_NOFS"),
    *("GFP_ATOMIC", "GFP_NOIO", "GFP_NOWAIT", "GFP_DMA", "__GFP_HIGHMEM", "GFP_DMA32"),
    *("__GFP_HIGH", "__GFP_ATOMIC", "__GFP_IO", "__GFP_FS", "__GFP_NOWARN"),
    *("__GFP_RETRY_MAYFAIL", "__GFP_NOFAIL", "__GFP_NORETRY", "__GFP_COMP"),
    *("__GFP_ZERO", "__GFP_NOMEMALLOC", "__GFP_MEMALLOC", "__GFP_HARDWALL"),
    *("__GFP_THISNODE", "__GFP_RECLAIMABLE", "__GFP_MOVABLE", "__GFP_ACCOUNT"),
    *("__GFP_WRITE", "__GFP_RECLAIM", "__GFP_DIRECT_RECLAIM"),
    *("__GFP_KSWAPD_RECLAIM", "__GFP_ZEROTAGS"),
]

# Rows of a running 6.1 that differ from those of 6.12.
MASKS_6_1 = {"GFP_ATOMIC": 0xA20, "GFP_NOWAIT": 0x800}
KERNEL_6_1 = tuple(FlagName(MASKS_6_1.get(name, mask), name) for mask, name in GFP_NAMES_6_1)

tables = st.lists(
    st.builds(FlagName, st.integers(1, 0xFFFFFFFF), st.sampled_from("abcdefgh")),
    unique_by=lambda row: row.name,
).map(tuple)


def names_of(table: tuple[FlagName, ...]) -> list[str]:
    """Return the names of a table in order."""
    return [name for _, name in table]


def test_formats() -> None:
    """Each format is found by its name, and the default is one of them."""
    assert list(FORMATS) == ["6.1", "6.12", "next"]
    assert all(output_format.name == name for name, output_format in FORMATS.items())
    assert FORMATS[DEFAULT_FORMAT].name == "6.12"


@pytest.mark.parametrize(
    ("name", "pfn_hex", "free_ts", "gfp_names", "threshold_newline"),
    [
        pytest.param("6.1", False, True, GFP_NAMES_6_1, False, id="6.1"),
        pytest.param("6.12", True, False, GFP_NAMES_6_12, False, id="6.12"),
        pytest.param("next", True, False, GFP_NAMES_NEXT, True, id="next"),
    ],
)
def test_what_differs(
    name: str,
    *,
    pfn_hex: bool,
    free_ts: bool,
    gfp_names: tuple[FlagName, ...],
    threshold_newline: bool,
) -> None:
    """Each format prints the text of its kernel."""
    assert FORMATS[name] == (name, pfn_hex, free_ts, gfp_names, threshold_newline, name == "next")


def test_order_of_6_1() -> None:
    """6.1 prints in the order of 6.12, with __GFP_ATOMIC after __GFP_HIGH."""
    assert names_of(GFP_NAMES_6_1) == ORDER_6_1
    assert set(GFP_NAMES_6_1) - set(GFP_NAMES_6_12) == {FlagName(0x200, "__GFP_ATOMIC")}


@pytest.mark.parametrize(
    ("mask", "older", "later"),
    [
        pytest.param(
            0xD2CC0,
            "GFP_KERNEL|__GFP_NOWARN|__GFP_NORETRY|__GFP_COMP|__GFP_NOMEMALLOC",
            "GFP_KERNEL|__GFP_NOWARN|__GFP_NORETRY|__GFP_COMP|__GFP_NOMEMALLOC",
            id="same in all",
        ),
        pytest.param(
            0x42DC0,
            "GFP_KERNEL|__GFP_NOWARN|__GFP_COMP|__GFP_ZERO",
            "GFP_KERNEL|__GFP_ZERO|__GFP_NOWARN|__GFP_COMP",
            id="zero comes earlier",
        ),
        pytest.param(0x820, "GFP_ATOMIC", "GFP_ATOMIC", id="atomic"),
        pytest.param(0x2800, "GFP_NOWAIT", "GFP_NOWAIT", id="nowait"),
        pytest.param(0, "", "", id="early"),
    ],
)
def test_masks_of_a_pool(mask: int, older: str, later: str) -> None:
    """A mask of 6.12 is named by its meaning in every format."""
    assert decode_gfp(mask, FORMATS["6.1"].gfp_names) == older
    assert decode_gfp(mask, FORMATS["6.12"].gfp_names) == older
    assert decode_gfp(mask, FORMATS["next"].gfp_names) == later


@given(st.integers(0, 0xFFFFFFFF))
def test_6_1_and_6_12_differ_in_one_bit(mask: int) -> None:
    """Without the bit of __GFP_ATOMIC, both formats print the same text."""
    without = mask & ~0x200
    assert decode_gfp(without, GFP_NAMES_6_1) == decode_gfp(without, GFP_NAMES_6_12)
    assert "__GFP_ATOMIC" in decode_gfp(mask | 0x200, GFP_NAMES_6_1).split("|")


def test_masks_of_a_running_6_1() -> None:
    """A kernel's masks are named by its own rows in any format: 0xa20 is its GFP_ATOMIC."""
    for output_format in FORMATS.values():
        names = reorder_gfp_names(KERNEL_6_1, output_format.gfp_names)
        assert decode_gfp(0xA20, names) == "GFP_ATOMIC"
        assert decode_gfp(0x800, names) == "GFP_NOWAIT"
    assert decode_gfp(0x42FC0, reorder_gfp_names(KERNEL_6_1, GFP_NAMES_NEXT)) == (
        "GFP_KERNEL|__GFP_ZERO|__GFP_NOWARN|__GFP_COMP|__GFP_ATOMIC"
    )


def test_reorder_real_tables() -> None:
    """Each table can take another's order; names that a kernel lacks are not added."""
    assert reorder_gfp_names(GFP_NAMES_NEXT, GFP_NAMES_NEXT) == GFP_NAMES_NEXT
    expected = tuple(row for row in GFP_NAMES_NEXT if row in GFP_NAMES_6_12)
    assert reorder_gfp_names(GFP_NAMES_6_12, GFP_NAMES_NEXT) == expected
    back = reorder_gfp_names(GFP_NAMES_NEXT, GFP_NAMES_6_12)
    assert back[: len(GFP_NAMES_6_12)] == GFP_NAMES_6_12
    assert names_of(back[len(GFP_NAMES_6_12) :]) == ["__GFP_DMA", "__GFP_DMA32"]


@given(tables, tables)
def test_reorder(names: tuple[FlagName, ...], order: tuple[FlagName, ...]) -> None:
    """Rows stay unchanged; known names come first, in the table's order."""
    result = reorder_gfp_names(iter(names), order)
    assert sorted(result) == sorted(names)
    known = [name for name in names_of(order) if name in names_of(names)]
    others = [name for name in names_of(names) if name not in known]
    assert names_of(result) == known + others
