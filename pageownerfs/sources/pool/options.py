"""Options of a pool."""

from typing import Final, NamedTuple

from pageownerfs.mm.kstrtox import memparse
from pageownerfs.mm.stack_depot import STACKDEPOT_MAX_FRAMES
from pageownerfs.sources.options import PAGE_OWNER, Option, number_parser


class PoolOptions(NamedTuple):
    """Options of a pool; sizes in bytes."""

    page_owner: bool = False
    """Track owners from the first page."""
    size_bytes: int | None = None
    """Managed memory; None for 1 GiB, or a quarter of the free memory of /dev/shm if less."""
    movablecore_bytes: int = 0
    """Size of zone Movable, part of the managed memory."""
    cma_bytes: int = 0
    """Size of the CMA pageblocks, part of zone Normal."""
    stack_depth: int = 16
    """Frames to keep of a call stack, 1..64."""
    stack_depot_bytes: int = 32 << 20
    """Memory limit of the stack depot."""


OPTIONS: Final = (
    PAGE_OWNER,
    Option(
        "size",
        "size_bytes",
        memparse,
        "SIZE",
        "size of the pool (1G, or 1/4 of /dev/shm if less)",
    ),
    Option("movablecore", "movablecore_bytes", memparse, "SIZE", "size of zone Movable (0)"),
    Option("cma", "cma_bytes", memparse, "SIZE", "size of CMA within zone Normal (0)"),
    Option(
        "stack_depth",
        "stack_depth",
        number_parser(1, STACKDEPOT_MAX_FRAMES, "a number of frames"),
        "N",
        f"frames to keep of a call stack, 1-{STACKDEPOT_MAX_FRAMES} (16)",
    ),
    Option("stack_depot", "stack_depot_bytes", memparse, "SIZE", "memory limit of stacks (32M)"),
)
"""The options as a user writes them."""
