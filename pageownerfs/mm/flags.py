"""
Format a flags word by the rule that ``%pGg`` and ``%pGp`` share.

Mirrors format_flags() in lib/vsprintf.c and struct trace_print_flags.
"""

from collections.abc import Iterable
from typing import NamedTuple


class FlagName(NamedTuple):
    """One row of a table of names (``struct trace_print_flags``)."""

    mask: int
    """Bits that must all be set for the name to be printed; never 0."""
    name: str
    """Name as printed."""


def format_flags(flags: int, names: Iterable[FlagName]) -> str:
    """
    Return the names of the bits of a flags word, joined by ``|``.

    The table is walked in order: a row whose bits are all set is printed and its bits are removed.
    Bits that no row names are printed last, as one hexadecimal number.

    >>> names = (FlagName(0x6, "pair"), FlagName(0x2, "one"))
    >>> format_flags(0, names)
    ''
    >>> format_flags(0x6, names)
    'pair'
    >>> format_flags(0x1a, names)
    'one|0x18'

    :param flags: ``unsigned long``, >= 0
    :param names: rows, those with more bits first
    :return: text without blanks; empty for 0
    """
    texts = []
    for mask, name in names:
        if flags & mask == mask:
            texts.append(name)
            flags &= ~mask
    if flags:
        texts.append(f"{flags:#x}")
    return "|".join(texts)
