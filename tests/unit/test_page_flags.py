"""The flags word: names, fields, and the kernel's configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from data import DATA

from pageownerfs.mm.page_flags import (
    PAGE_FLAG_BITS,
    PAGE_FLAG_NAMES,
    PAGE_FLAGS_FIELDS,
    PageFlagsField,
    decode_page_flags,
    format_page_flags,
    page_flag_bits_6_12,
    page_flag_names,
)

if TYPE_CHECKING:
    from pageownerfs.page_owner_sort import Record

FLAGS = DATA / "page_flags.txt"
ALL_OPTIONAL = ("mlocked", "hwpoison", "young", "idle", "arch_2", "arch_3")

# A stock x86-64 kernel with NUMA balancing and five zones: fields from the top down.
NUMA_FIELDS = (
    PageFlagsField("node", 54, 10, 10),
    PageFlagsField("zone", 51, 3, 10),
    PageFlagsField("lastcpupid", 30, 21, 16),
)


@pytest.mark.parametrize("text", FLAGS.read_text().splitlines())
def test_flags_of_a_kernel(text: str) -> None:
    """A flags word is printed as by the kernel that printed it."""
    assert format_page_flags(int(text.partition("(")[0], 16)) == text


def test_all_flags_of_the_dump(oracle_records: list[Record]) -> None:
    """Each flags word of the complete dump is printed as in it, and tests/data has each."""
    texts = {str(record.flags or b"", "ascii") for record in oracle_records}
    for text in texts:
        assert format_page_flags(int(text.partition("(")[0], 16)) == text
    assert texts == set(FLAGS.read_text().splitlines())


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        pytest.param(0, "0x0(zone=0)", id="the zone prints also when it is 0"),
        pytest.param(3 << 62, "0xc000000000000000(zone=3)", id="highest zone"),
        pytest.param(1 << 13, "0x2000(reserved|zone=0)", id="reserved"),
        pytest.param(0x300000, "0x300000(idle|young|zone=0)", id="idle comes before young"),
        pytest.param(0x400040, "0x400040(head|zone=0)", id="above the flags nothing is named"),
        pytest.param(
            0x3FFFFF,
            "0x3fffff(locked|waiters|referenced|uptodate|dirty|lru|active|workingset|owner_priv_1"
            "|owner_2|arch_1|reserved|private|private_2|writeback|head|reclaim|swapbacked"
            "|unevictable|mlocked|idle|young|zone=0)",
            id="all flags, in the order of printing",
        ),
    ],
)
def test_format_page_flags(flags: int, text: str) -> None:
    """Names come in the order of the table, and fields after them."""
    assert format_page_flags(flags) == text


def test_fields_of_another_kernel() -> None:
    """A layout with node and lastcpupid prints them in decimal and hex."""
    text = "0x17ffffc0020028(uptodate|lru|swapbacked|node=0|zone=2|lastcpupid=0x1fffff)"
    assert format_page_flags(0x17FFFFC0020028, NUMA_FIELDS) == text


def test_no_fields() -> None:
    """Without fields only names are printed, or nothing if there are none."""
    assert format_page_flags(0x41, fields=()) == "0x41(locked|head)"
    assert format_page_flags(0, fields=()) == "0x0()"


def test_optional_flags_take_the_next_bits() -> None:
    """An optional flag that is not configured leaves no gap."""
    bits = page_flag_bits_6_12(ALL_OPTIONAL)
    assert [bits[name] for name in ALL_OPTIONAL] == [19, 20, 21, 22, 23, 24]
    assert page_flag_bits_6_12(("idle", "mlocked")) == {
        **page_flag_bits_6_12(()),
        "mlocked": 19,
        "idle": 20,
    }
    assert decode_page_flags(1 << 20, page_flag_names(bits)) == "hwpoison"


def test_unknown_optional_flag() -> None:
    """A flag that 6.12 does not have is refused by name."""
    with pytest.raises(ValueError, match="unknown optional page flags: dropbehind"):
        page_flag_bits_6_12(("mlocked", "dropbehind"))


def test_bits_of_the_core() -> None:
    """The flags that the C core sets have the right numbers."""
    assert PAGE_FLAG_BITS["head"] == 6
    assert PAGE_FLAG_BITS["reserved"] == 13
    assert PAGE_FLAGS_FIELDS == (PageFlagsField("zone", 62, 2, 10),)


def test_table_has_every_flag_once() -> None:
    """The printing order misses no bit."""
    assert sorted(mask for mask, _ in PAGE_FLAG_NAMES) == [1 << bit for bit in range(22)]
    assert {name for _, name in PAGE_FLAG_NAMES} == set(PAGE_FLAG_BITS)
