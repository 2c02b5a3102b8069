"""
Output formats: what the text of page_owner looks like on other kernels than 6.12 (``-o format=``).

For tools that read the text of one kernel only. A format chooses how a record is written, never
what it says. Page flags and migratetypes stay those of the source in every format: their numbers
belong to the kernel that the pages are from (6.1 has other flags, and at other bits, than 6.12),
so the table of another kernel would give them wrong names. The low 24 bits of gfp masks are the
same in all formats, but for 6.1's ``__GFP_ATOMIC``, which no mask of a later kernel has.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from .flags import FlagName
from .gfp import GFP_NAMES_6_1, GFP_NAMES_6_12, GFP_NAMES_NEXT


class Format(NamedTuple):
    """How one version of the kernel writes page_owner and page_owner_stacks."""

    name: str
    """As in ``-o format=``: 6.1, 6.12 or next."""
    pfn_hex: bool
    """``PFN 0x1a2b``; else decimal: ``PFN 6699``."""
    free_ts: bool
    """``, free_ts N ns`` at the end of the first line of a record."""
    gfp_names: tuple[FlagName, ...]
    """Table that ``%pGg`` prints by, in the order of printing."""
    threshold_newline: bool
    """Reading count_threshold gives a newline after the number (6.1 has no such file)."""
    filters: bool
    """page_owner has filters, and so the mode 0600, also with kernel_abi."""


FORMATS: Final[Mapping[str, Format]] = MappingProxyType(
    {
        output_format.name: output_format
        for output_format in (
            Format(
                name="6.1",
                pfn_hex=False,
                free_ts=True,
                gfp_names=GFP_NAMES_6_1,
                threshold_newline=False,
                filters=False,
            ),
            Format(
                name="6.12",
                pfn_hex=True,
                free_ts=False,
                gfp_names=GFP_NAMES_6_12,
                threshold_newline=False,
                filters=False,
            ),
            Format(
                name="next",
                pfn_hex=True,
                free_ts=False,
                gfp_names=GFP_NAMES_NEXT,
                threshold_newline=True,
                filters=True,
            ),
        )
    }
)
"""Formats by name; ``next`` is the kernel after 6.19, as its development tree has it."""

DEFAULT_FORMAT: Final = "6.12"
"""Name of the format where none is asked for."""


def reorder_gfp_names(
    names: Iterable[FlagName], order: tuple[FlagName, ...]
) -> tuple[FlagName, ...]:
    """
    Put a kernel's own table of gfp names in the order of a format.

    Masks differ from kernel to kernel, so the rows stay the kernel's: one that ``order`` has and
    the kernel has not is not added.

    >>> rows = (FlagName(0x1, "ours"), FlagName(0x2, "a"), FlagName(0x4, "b"))
    >>> [row.name for row in reorder_gfp_names(rows, (FlagName(0x8, "b"), FlagName(0x2, "a")))]
    ['b', 'a', 'ours']

    :param names: rows of the kernel that the masks are from
    :param order: table of a format; only the order of its names counts
    :return: the rows of ``names``; those with no name in ``order`` come last, as they came
    """
    index = {row.name: number for number, row in enumerate(order)}
    return tuple(sorted(names, key=lambda row: index.get(row.name, len(index))))
