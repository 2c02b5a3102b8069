"""Options of a pool."""

from typing import Final, NamedTuple

from pageownerfs.mm.kstrtox import memparse
from pageownerfs.mm.stack_depot import STACKDEPOT_MAX_FRAMES
from pageownerfs.sources.options import PAGE_OWNER, Option, number_parser


class PoolOptions(NamedTuple):
    """How to make a pool; sizes in bytes."""

    page_owner: bool = False
    """Track owners from the first page on."""
    size_bytes: int | None = None
    """Managed memory; None: 1 GiB, or a quarter of what /dev/shm has free if that is less."""
    movablecore_bytes: int = 0
    """Part of it that is zone Movable."""
    cma_bytes: int = 0
    """Part of zone Normal in CMA pageblocks."""
    stack_depth: int = 16
    """Frames kept of a call stack, 1..64."""
    stack_depot_bytes: int = 32 << 20
    """Most that the stack depot may take."""


OPTIONS: Final = (
    PAGE_OWNER,
    Option(
        "size",
        "size_bytes",
        memparse,
        "SIZE",
        "memory of the pool (1G, or 1/4 of /dev/shm if less)",
    ),
    Option("movablecore", "movablecore_bytes", memparse, "SIZE", "part in zone Movable (0)"),
    Option("cma", "cma_bytes", memparse, "SIZE", "part of zone Normal in CMA blocks (0)"),
    Option(
        "stack_depth",
        "stack_depth",
        number_parser(1, STACKDEPOT_MAX_FRAMES, "a number of frames"),
        "N",
        f"frames kept of a stack, 1-{STACKDEPOT_MAX_FRAMES} (16)",
    ),
    Option("stack_depot", "stack_depot_bytes", memparse, "SIZE", "limit of all stacks (32M)"),
)
"""As they are written."""
