"""Zones: derived numbers, and the text about free blocks."""

from __future__ import annotations

import pytest

from pageownerfs.mm.zone import Zone, format_free_blocks

# Lines of /proc/pagetypeinfo of a real kernel: [migratetype][order].
DMA32_BY_TYPE = (
    (106, 73, 52, 33, 7, 8, 5, 2, 6, 0, 0),
    (1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 361),
    (1, 1, 1, 0, 0, 1, 0, 1, 0, 1, 0),
    (0,) * 11,
    (0,) * 11,
    (0,) * 11,
)


def make_zone(name: str, by_type: tuple[tuple[int, ...], ...]) -> Zone:
    """Make a zone with these free blocks, given as [migratetype][order]."""
    by_order = tuple(zip(*by_type, strict=True))
    nr_free = sum(sum(counts) << order for order, counts in enumerate(by_order))
    return Zone(
        nid=0,
        name=name,
        start_pfn=4096,
        spanned_pages=2048,
        present_pages=2048,
        managed_pages=2000,
        nr_free=nr_free,
        nr_pcp=0,
        wmark_min=10,
        wmark_low=12,
        wmark_high=15,
        nr_free_by_type=by_order,
        nr_blocks_by_type=(4, 0, 0, 0, 0, 0),
    )


def test_end_pfn() -> None:
    """A zone ends after its span, holes included."""
    assert make_zone("DMA", DMA32_BY_TYPE).end_pfn == 6144


def test_free_blocks() -> None:
    """The blocks of an order are those of all types, as in /proc/buddyinfo."""
    zone = make_zone("DMA32", DMA32_BY_TYPE)
    assert zone.free_blocks == (108, 75, 53, 33, 7, 9, 6, 3, 6, 1, 361)


@pytest.mark.parametrize(
    ("by_type", "text"),
    [
        pytest.param(
            DMA32_BY_TYPE,
            "108*4kB 75*8kB 53*16kB 33*32kB 7*64kB 9*128kB 6*256kB 3*512kB 6*1024kB 1*2048kB "
            "361*4096kB = 1494456kB",
            id="a real zone",
        ),
        pytest.param(
            ((0,) * 11,),
            "0*4kB 0*8kB 0*16kB 0*32kB 0*64kB 0*128kB 0*256kB 0*512kB 0*1024kB 0*2048kB "
            "0*4096kB = 0kB",
            id="nothing free",
        ),
    ],
)
def test_format_free_blocks(by_type: tuple[tuple[int, ...], ...], text: str) -> None:
    """Every order is shown as count and size, followed by the sum."""
    zone = make_zone("Normal", by_type)
    assert format_free_blocks([zone]) == f"Normal: {text}"
    assert text.endswith(f" = {zone.nr_free * 4}kB")


def test_format_free_blocks_of_zones() -> None:
    """Zones follow each other on one line, in order."""
    zones = [make_zone("DMA", ((2, 1),)), make_zone("Normal", ((0, 3),))]
    assert format_free_blocks(zones) == "DMA: 2*4kB 1*8kB = 16kB; Normal: 0*4kB 3*8kB = 24kB"
    assert format_free_blocks([]) == ""
