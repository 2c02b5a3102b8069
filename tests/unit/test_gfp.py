"""Gfp masks: names, values, and the migratetype they ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from data import DATA
from hypothesis import given
from hypothesis import strategies as st

from pageownerfs.mm import gfp
from pageownerfs.mm.gfp import (
    __GFP_COMP,
    __GFP_ZERO,
    GFP_KERNEL,
    GFP_NAMES_6_12,
    GFP_NAMES_NEXT,
    GFP_VALUES,
    decode_gfp,
    format_gfp,
    gfp_migratetype,
    parse_gfp,
)
from pageownerfs.mm.migratetype import migratetype_name

if TYPE_CHECKING:
    from pageownerfs.page_owner_sort import Record

MASKS = DATA / "gfp_masks.txt"

known_masks = st.sets(st.sampled_from(sorted(set(GFP_VALUES.values())))).map(
    lambda masks: sum({1 << bit for bit in range(32) for mask in masks if mask >> bit & 1})
)


def check_mask(text: str, page_mt: str) -> None:
    """Compare our names and migratetype for a kernel's mask with the kernel's."""
    number, _, _ = text.partition("(")
    assert format_gfp(int(number, 16)) == text
    assert migratetype_name(gfp_migratetype(int(number, 16))) == page_mt


@pytest.mark.parametrize("line", MASKS.read_text().splitlines())
def test_mask_of_a_kernel(line: str) -> None:
    """A mask is printed, and its migratetype named, as by the kernel that printed it."""
    text, page_mt = line.split()
    check_mask(text, page_mt)


def test_all_masks_of_the_dump(oracle_records: list[Record]) -> None:
    """Each mask of the complete dump is printed as in it, and tests/data has each."""
    pairs = {(record.mask.decode(), (record.page_mt or b"").decode()) for record in oracle_records}
    for text, page_mt in pairs:
        check_mask(text, page_mt)
    assert {f"{text} {page_mt}" for text, page_mt in pairs} == set(MASKS.read_text().splitlines())


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        pytest.param(0, "0x0()", id="zero prints its 0x and no name"),
        pytest.param(0x1, "0x1(GFP_DMA)", id="the composite hides __GFP_DMA"),
        pytest.param(0x4, "0x4(GFP_DMA32)", id="and __GFP_DMA32"),
        pytest.param(0xC00, "0xc00(GFP_NOIO)", id="and __GFP_RECLAIM"),
        pytest.param(0x820, "0x820(GFP_ATOMIC)", id="atomic"),
        pytest.param(0x2800, "0x2800(GFP_NOWAIT)", id="nowait"),
        pytest.param(0x800, "0x800(__GFP_KSWAPD_RECLAIM)", id="half of a composite"),
        pytest.param(0x200, "0x200(0x200)", id="the unused bit has no name"),
        pytest.param(0x1000CC0, "0x1000cc0(GFP_KERNEL|0x1000000)", id="NO_OBJ_EXT has no name"),
        pytest.param(0xFF000200, "0xff000200(0xff000200)", id="leftovers are one number"),
        pytest.param(
            0x8008C0,
            "0x8008c0(__GFP_IO|__GFP_FS|__GFP_KSWAPD_RECLAIM|__GFP_ZEROTAGS)",
            id="last of the table",
        ),
    ],
)
def test_format_gfp(mask: int, text: str) -> None:
    """The table is walked in order, and the rest is one hex number at the end."""
    assert format_gfp(mask) == text


@pytest.mark.parametrize(
    ("mask", "older", "later"),
    [
        pytest.param(
            0x42DC0,
            "GFP_KERNEL|__GFP_NOWARN|__GFP_COMP|__GFP_ZERO",
            "GFP_KERNEL|__GFP_ZERO|__GFP_NOWARN|__GFP_COMP",
            id="zero comes earlier",
        ),
        pytest.param(
            0xD2CC0,
            "GFP_KERNEL|__GFP_NOWARN|__GFP_NORETRY|__GFP_COMP|__GFP_NOMEMALLOC",
            "GFP_KERNEL|__GFP_NOWARN|__GFP_NORETRY|__GFP_COMP|__GFP_NOMEMALLOC",
            id="same in both",
        ),
        pytest.param(0x6, "__GFP_HIGHMEM|GFP_DMA32", "GFP_DMA32|__GFP_HIGHMEM", id="zones"),
    ],
)
def test_tables_of_two_kernels(mask: int, older: str, later: str) -> None:
    """The order of the names follows the kernel's table."""
    assert decode_gfp(mask, GFP_NAMES_6_12) == older
    assert decode_gfp(mask, GFP_NAMES_NEXT) == later


def test_tables_name_every_bit() -> None:
    """Both tables name bits 0 to 23 except the unused one; the later adds two that never print."""
    assert {row for row in GFP_NAMES_NEXT if row.name not in ("__GFP_DMA", "__GFP_DMA32")} == set(
        GFP_NAMES_6_12
    )
    assert len(GFP_NAMES_6_12) == len(set(GFP_NAMES_6_12)) == 35
    for names in (GFP_NAMES_6_12, GFP_NAMES_NEXT):
        bits = 0
        for mask, _ in names:
            bits |= mask
        assert bits == 0xFFFFFF & ~0x200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GFP_ATOMIC", 0x820),
        ("GFP_NOWAIT", 0x2800),
        ("GFP_NOIO", 0xC00),
        ("GFP_NOFS", 0xC40),
        ("GFP_KERNEL", 0xCC0),
        ("GFP_KERNEL_ACCOUNT", 0x400CC0),
        ("GFP_USER", 0x100CC0),
        ("GFP_HIGHUSER", 0x100CC2),
        ("GFP_HIGHUSER_MOVABLE", 0x100CCA),
        ("GFP_TRANSHUGE_LIGHT", 0x1C20CA),
        ("GFP_TRANSHUGE", 0x1C24CA),
        ("__GFP_RECLAIM", 0xC00),
        ("__GFP_NO_OBJ_EXT", 0x1000000),
    ],
)
def test_values(name: str, value: int) -> None:
    """Composite flags have the kernel's values, as constants and as names."""
    assert getattr(gfp, name) == GFP_VALUES[name] == value


def test_every_constant_is_a_name() -> None:
    """Each GFP constant of the module can be given by name, with the same value."""
    no_flags = {"GFP_VALUES", "GFP_MOVABLE_MASK", "GFP_MASK_MAX"}
    constants = {
        name: value
        for name, value in vars(gfp).items()
        if name.startswith(("GFP_", "__GFP_")) and isinstance(value, int) and name not in no_flags
    }
    assert constants == GFP_VALUES


@pytest.mark.parametrize(
    ("text", "mask"),
    [
        pytest.param("0xcc0", 0xCC0, id="hex"),
        pytest.param("0XCC0", 0xCC0, id="upper-case hex"),
        pytest.param("3264", 0xCC0, id="decimal"),
        pytest.param("0", 0, id="zero"),
        pytest.param("0xffffffff", 0xFFFFFFFF, id="all bits"),
        pytest.param("GFP_KERNEL", 0xCC0, id="a name"),
        pytest.param("GFP_KERNEL|__GFP_ZERO", 0xDC0, id="bar"),
        pytest.param("GFP_KERNEL,__GFP_ZERO", 0xDC0, id="comma"),
        pytest.param("GFP_KERNEL+__GFP_ZERO", 0xDC0, id="plus"),
        pytest.param(" GFP_KERNEL | 0x100 ", 0xDC0, id="blanks and a number"),
        pytest.param("GFP_KERNEL|GFP_KERNEL", 0xCC0, id="twice is once"),
    ],
)
def test_parse_gfp(text: str, mask: int) -> None:
    """Names and numbers joined by bar, comma or plus are or-ed."""
    assert parse_gfp(text) == mask
    assert GFP_KERNEL | __GFP_ZERO | __GFP_COMP == parse_gfp("GFP_KERNEL|__GFP_ZERO|__GFP_COMP")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("", "unknown: ''", id="empty"),
        pytest.param("GFP_KERNEL|", "unknown: ''", id="empty part"),
        pytest.param("gfp_kernel", "unknown: 'gfp_kernel'", id="lower case"),
        pytest.param("FOO|GFP_KERNEL|BAR", "unknown: 'FOO', 'BAR'", id="all of them are listed"),
        pytest.param("-1", "unknown: '-1'", id="negative"),
        pytest.param("0x", "unknown: '0x'", id="no digits"),
        pytest.param("1_0", "unknown: '1_0'", id="underscore"),
        pytest.param("\u0661", "unknown", id="foreign digit"),
        pytest.param("0x100000000", "more than 32 bits", id="33 bits"),
        pytest.param("9" * 5000, "unknown", id="endless number"),
    ],
)
def test_parse_gfp_refuses(text: str, complaint: str) -> None:
    """An invalid mask is refused in one line that lists its unknown parts."""
    with pytest.raises(ValueError, match=r"^gfp mask ") as error:
        parse_gfp(text)
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


@given(known_masks)
def test_parse_is_the_inverse_of_decode(mask: int) -> None:
    """Parsing the names of a mask gives the mask."""
    assert parse_gfp(decode_gfp(mask) or "0") == mask
    assert parse_gfp(decode_gfp(mask, GFP_NAMES_NEXT) or "0") == mask


@pytest.mark.parametrize(("mask", "migratetype"), [(0xCC0, 0), (0x8, 1), (0x10, 2), (0x18, 3)])
def test_gfp_migratetype(mask: int, migratetype: int) -> None:
    """Bits 3 and 4 are the migratetype."""
    assert gfp_migratetype(mask) == migratetype
