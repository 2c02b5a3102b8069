"""
Output formats: how kernels other than 6.12 print page_owner (``-o format=``).

Formats serve tools that can read the text of only one kernel. A format decides how a record is
written, never what it says. Page flags and migratetypes are those of the source in every format.
Their numbers belong to the kernel that owns the pages (6.1 has other flags than 6.12, at other
bits), so the table of another kernel would give them wrong names. The low 24 bits of a gfp mask
mean the same in all formats, except 6.1's ``__GFP_ATOMIC``, which no later mask contains.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from .flags import FlagName
from .gfp import GFP_NAMES_6_1, GFP_NAMES_6_12, GFP_NAMES_NEXT


class Format(NamedTuple):
    """How one kernel version writes page_owner and page_owner_stacks."""

    name: str
    """Name in ``-o format=``: 6.1, 6.12 or next."""
    pfn_hex: bool
    """True: ``PFN 0x1a2b``. False: ``PFN 6699``."""
    free_ts: bool
    """Whether the first line of a record ends in ``, free_ts N ns``."""
    gfp_names: tuple[FlagName, ...]
    """Table of ``%pGg``, in the order of printing."""
    threshold_newline: bool
    """Whether count_threshold ends in a newline (6.1 has no such file)."""
    filters: bool
    """Whether page_owner takes filters, and so has the mode 0600, with kernel_abi too."""


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
"""Formats by name; ``next`` is the development tree after 6.19."""

DEFAULT_FORMAT: Final = "6.12"
"""Name of the format that is used unless ``-o format=`` is given."""


def reorder_gfp_names(
    names: Iterable[FlagName], order: tuple[FlagName, ...]
) -> tuple[FlagName, ...]:
    """
    Sort a kernel's own table of gfp names in the order of a format.

    Masks differ between kernels, so the result has only the kernel's own rows: a row of ``order``
    that the kernel lacks is not added.

    >>> rows = (FlagName(0x1, "ours"), FlagName(0x2, "a"), FlagName(0x4, "b"))
    >>> [row.name for row in reorder_gfp_names(rows, (FlagName(0x8, "b"), FlagName(0x2, "a")))]
    ['b', 'a', 'ours']

    :param names: rows of the kernel that the masks come from
    :param order: table of a format; only the order of its names matters
    :return: the rows of ``names``; rows that ``order`` does not name come last, in their old order
    """
    index = {row.name: number for number, row in enumerate(order)}
    return tuple(sorted(names, key=lambda row: index.get(row.name, len(index))))
