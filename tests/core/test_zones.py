"""The zone that a gfp mask selects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pageownerfs.client import Pool

pytestmark = pytest.mark.require("shm")


@pytest.mark.parametrize(
    ("mask", "zone"),
    [
        pytest.param(0xCC0, "Normal", id="kernel"),
        pytest.param(0xCC1, "DMA", id="DMA"),
        pytest.param(0xCC4, "Normal", id="DMA32 without a zone of its own"),
        pytest.param(0x100CC2, "Normal", id="highuser without highmem"),
        pytest.param(0x100CCA, "Movable", id="highuser movable"),
        pytest.param(0xCC8, "Normal", id="movable, not highmem"),
        pytest.param(0xCC9, "DMA", id="movable in DMA"),
        pytest.param(0xCCC, "Normal", id="movable in DMA32"),
    ],
)
def test_gfp_zone(make_pool: Callable[..., Pool], mask: int, zone: str) -> None:
    """The low four bits choose the zone by the kernel's table."""
    pool = make_pool(64, 16)
    page = pool.alloc_pages(0, mask)
    assert pool.zones[pool.page_info(page.pfn).zone].name == zone


@pytest.mark.parametrize("bits", [0x3, 0x5, 0x6, 0x7, 0xB, 0xD, 0xE, 0xF])
def test_gfp_zone_refuses(pool: Pool, bits: int) -> None:
    """A mask with two zones is an error that names the mask."""
    with pytest.raises(ValueError, match=f"{0xCC0 | bits:#x}: contradicts itself"):
        pool.alloc_pages(0, 0xCC0 | bits)
