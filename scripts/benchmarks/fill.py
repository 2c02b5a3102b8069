"""Allocate pages of a pool through realistic call paths and leave them allocated.

    python -m benchmarks.fill MOUNTPOINT COUNT SEED

The functions exist and are named like those of a running kernel, so each page gets a call stack
like a kernel page's: 8 to 13 frames deep.
"""

from __future__ import annotations

import random
import sys
from types import FunctionType
from typing import TYPE_CHECKING, NamedTuple

from pageownerfs import Pool

from .shape import RUN_LENGTH, load_shapes

if TYPE_CHECKING:
    from collections.abc import Callable

    from .shape import Shape

# main(), its callers and its callees
NR_FRAMES_HERE = 3


class Path(NamedTuple):
    """One way to get pages."""

    gfp_mask: int
    functions: tuple[Callable[..., None], ...]
    """Outermost first; each calls the next one."""


def allocate(pool: Pool, path: Path, level: int, nr: int) -> None:
    """Allocate ``nr`` pages; this is the innermost function of a path."""
    del level
    alloc_pages, gfp_mask = pool.alloc_pages, path.gfp_mask
    for _ in range(nr):
        alloc_pages(0, gfp_mask)


def go_on(pool: Pool, path: Path, level: int, nr: int) -> None:
    """Call the next function of the path; this is every other function."""
    path.functions[level](pool, path, level + 1, nr)


def named(template: Callable[..., None], name: str) -> FunctionType:
    """Return a copy of the function under another name."""
    assert isinstance(template, FunctionType)
    code = template.__code__.replace(co_name=name, co_qualname=name)
    return FunctionType(code, {"__name__": "mm"}, name)


def make_path(shape: Shape) -> Path:
    """Make the functions of a shape; frames of this program stand for its outermost ones."""
    innermost, *others = shape.functions[: len(shape.functions) - NR_FRAMES_HERE]
    functions = [named(allocate, innermost), *(named(go_on, name) for name in others)]
    return Path(shape.gfp_mask, tuple(reversed(functions)))


def fill(pool: Pool, paths: list[Path], nr_pages: int, seed: int) -> None:
    """Allocate ``count`` pages; as in a kernel, neighbours often come from the same path."""
    choose = random.Random(seed)  # noqa: S311 - the same in every run
    while nr_pages > 0:
        path = choose.choice(paths)
        nr = min(nr_pages, 1 + int(choose.expovariate(1 / RUN_LENGTH)))
        path.functions[0](pool, path, 1, nr)
        nr_pages -= nr


def main() -> int:
    """Attach to the pool and fill it."""
    mountpoint, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    paths = [make_path(shape) for shape in load_shapes()]
    with Pool.attach(mountpoint) as pool:
        fill(pool, paths, count, seed)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
