"""The shape of real records: call paths and masks from a running kernel's page_owner."""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

from pageownerfs.page_owner_sort import read_records

SAMPLE = Path(__file__).parents[2] / "tests/data/oracle_sample.txt"
NR_STACKS = 512
"""Number of different call stacks in a small kernel soon after boot."""
RUN_LENGTH = 17
"""Average number of neighbouring pages that share one call stack."""
MIN_FRAMES, MAX_FRAMES = 8, 13

# A pool refuses __GFP_NOFAIL and has few pages for __GFP_DMA and __GFP_DMA32.
UNWANTED_MASK = 0x8000 | 0x1 | 0x4


class Shape(NamedTuple):
    """The parts that many records have in common."""

    gfp_mask: int
    head: str
    """The first two lines."""
    stack: tuple[str, ...]
    """Formatted frames, innermost first."""

    @property
    def functions(self) -> list[str]:
        """Names of the functions, innermost first."""
        return [frame.partition("+")[0] for frame in self.stack]

    @property
    def text(self) -> str:
        """Return the text of a record."""
        return self.head + "".join(f" {frame}\n" for frame in self.stack) + "\n"


def variant(shape: Shape, number: int) -> Shape:
    """Return a call path of the same length whose caller is another clone of its function."""
    if number == 0:
        return shape
    name, plus, rest = shape.stack[3].partition("+")
    stack = list(shape.stack)
    stack[3] = f"{name}.constprop.{number}{plus}{rest}"
    return shape._replace(stack=tuple(stack))


def load_shapes(seed: int = 1) -> list[Shape]:
    """Return NR_STACKS shapes with different stacks, 8 to 13 frames deep."""
    found: dict[tuple[str, ...], Shape] = {}
    for record in read_records(str(SAMPLE)):
        stack = tuple(line[1:] for line in record.stack.decode().splitlines())
        mask = record.gfp_mask
        if MIN_FRAMES <= len(stack) <= MAX_FRAMES and mask and not mask & UNWANTED_MASK:
            head = (record.header + record.pfn_line).decode(errors="replace") + "\n"
            found.setdefault(stack, Shape(mask, head, stack))
    originals = list(found.values())
    shapes = [
        variant(originals[number % len(originals)], number // len(originals))
        for number in range(NR_STACKS)
    ]
    random.Random(seed).shuffle(shapes)  # noqa: S311 - the same in every run
    return shapes


def write_shapes(path: Path) -> None:
    """Write the shapes as page_owner text."""
    path.write_text("".join(shape.text for shape in load_shapes()))
