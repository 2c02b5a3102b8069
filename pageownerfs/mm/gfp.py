"""
The gfp mask: how a page may be allocated (``gfp_t``, include/linux/gfp_types.h).

The values are those of Linux 6.12 on x86-64 without KASAN_HW_TAGS and LOCKDEP, the kernel that
the pool follows. Bits 0 to 23 are the same in every configuration. Inside a class, Python mangles
names that begin with two underscores: bind ``__GFP_COMP`` and similar names outside the class.
"""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from pageownerfs.mm.flags import FlagName, format_flags

__GFP_DMA: Final = 0x1
__GFP_HIGHMEM: Final = 0x2
__GFP_DMA32: Final = 0x4
__GFP_MOVABLE: Final = 0x8
__GFP_RECLAIMABLE: Final = 0x10
__GFP_HIGH: Final = 0x20
__GFP_IO: Final = 0x40
__GFP_FS: Final = 0x80
__GFP_ZERO: Final = 0x100
__GFP_DIRECT_RECLAIM: Final = 0x400
__GFP_KSWAPD_RECLAIM: Final = 0x800
__GFP_WRITE: Final = 0x1000
__GFP_NOWARN: Final = 0x2000
__GFP_RETRY_MAYFAIL: Final = 0x4000
__GFP_NOFAIL: Final = 0x8000
__GFP_NORETRY: Final = 0x10000
__GFP_MEMALLOC: Final = 0x20000
__GFP_COMP: Final = 0x40000
__GFP_NOMEMALLOC: Final = 0x80000
__GFP_HARDWALL: Final = 0x100000
__GFP_THISNODE: Final = 0x200000
__GFP_ACCOUNT: Final = 0x400000
__GFP_ZEROTAGS: Final = 0x800000
__GFP_NO_OBJ_EXT: Final = 0x1000000
__GFP_RECLAIM: Final = __GFP_DIRECT_RECLAIM | __GFP_KSWAPD_RECLAIM

GFP_ATOMIC: Final = __GFP_HIGH | __GFP_KSWAPD_RECLAIM
GFP_NOWAIT: Final = __GFP_KSWAPD_RECLAIM | __GFP_NOWARN
GFP_NOIO: Final = __GFP_RECLAIM
GFP_NOFS: Final = GFP_NOIO | __GFP_IO
GFP_KERNEL: Final = GFP_NOFS | __GFP_FS
GFP_KERNEL_ACCOUNT: Final = GFP_KERNEL | __GFP_ACCOUNT
GFP_USER: Final = GFP_KERNEL | __GFP_HARDWALL
GFP_DMA: Final = __GFP_DMA
GFP_DMA32: Final = __GFP_DMA32
GFP_HIGHUSER: Final = GFP_USER | __GFP_HIGHMEM
GFP_HIGHUSER_MOVABLE: Final = GFP_HIGHUSER | __GFP_MOVABLE
GFP_TRANSHUGE_LIGHT: Final = (
    GFP_HIGHUSER_MOVABLE | __GFP_COMP | __GFP_NOMEMALLOC | __GFP_NOWARN
) & ~__GFP_RECLAIM
GFP_TRANSHUGE: Final = GFP_TRANSHUGE_LIGHT | __GFP_DIRECT_RECLAIM

GFP_MOVABLE_MASK: Final = __GFP_RECLAIMABLE | __GFP_MOVABLE
GFP_MASK_MAX: Final = 0xFFFFFFFF
"""The largest gfp mask: ``gfp_t`` is an ``unsigned int``."""

_BITS: Final = (
    FlagName(__GFP_DMA, "__GFP_DMA"),
    FlagName(__GFP_HIGHMEM, "__GFP_HIGHMEM"),
    FlagName(__GFP_DMA32, "__GFP_DMA32"),
    FlagName(__GFP_MOVABLE, "__GFP_MOVABLE"),
    FlagName(__GFP_RECLAIMABLE, "__GFP_RECLAIMABLE"),
    FlagName(__GFP_HIGH, "__GFP_HIGH"),
    FlagName(__GFP_IO, "__GFP_IO"),
    FlagName(__GFP_FS, "__GFP_FS"),
    FlagName(__GFP_ZERO, "__GFP_ZERO"),
    FlagName(__GFP_DIRECT_RECLAIM, "__GFP_DIRECT_RECLAIM"),
    FlagName(__GFP_KSWAPD_RECLAIM, "__GFP_KSWAPD_RECLAIM"),
    FlagName(__GFP_WRITE, "__GFP_WRITE"),
    FlagName(__GFP_NOWARN, "__GFP_NOWARN"),
    FlagName(__GFP_RETRY_MAYFAIL, "__GFP_RETRY_MAYFAIL"),
    FlagName(__GFP_NOFAIL, "__GFP_NOFAIL"),
    FlagName(__GFP_NORETRY, "__GFP_NORETRY"),
    FlagName(__GFP_MEMALLOC, "__GFP_MEMALLOC"),
    FlagName(__GFP_COMP, "__GFP_COMP"),
    FlagName(__GFP_NOMEMALLOC, "__GFP_NOMEMALLOC"),
    FlagName(__GFP_HARDWALL, "__GFP_HARDWALL"),
    FlagName(__GFP_THISNODE, "__GFP_THISNODE"),
    FlagName(__GFP_ACCOUNT, "__GFP_ACCOUNT"),
    FlagName(__GFP_ZEROTAGS, "__GFP_ZEROTAGS"),
)

# Names that stand for several bits, in the order in which all versions print them.
_COMPOSITES: Final = (
    FlagName(GFP_TRANSHUGE, "GFP_TRANSHUGE"),
    FlagName(GFP_TRANSHUGE_LIGHT, "GFP_TRANSHUGE_LIGHT"),
    FlagName(GFP_HIGHUSER_MOVABLE, "GFP_HIGHUSER_MOVABLE"),
    FlagName(GFP_HIGHUSER, "GFP_HIGHUSER"),
    FlagName(GFP_USER, "GFP_USER"),
    FlagName(GFP_KERNEL_ACCOUNT, "GFP_KERNEL_ACCOUNT"),
    FlagName(GFP_KERNEL, "GFP_KERNEL"),
    FlagName(GFP_NOFS, "GFP_NOFS"),
    FlagName(GFP_ATOMIC, "GFP_ATOMIC"),
    FlagName(GFP_NOIO, "GFP_NOIO"),
    FlagName(GFP_NOWAIT, "GFP_NOWAIT"),
    FlagName(GFP_DMA, "GFP_DMA"),
)

# Names that a user may write although %pGg never prints them: it has no row for them, or prints
# another name of the same value.
_OTHERS: Final = (
    FlagName(GFP_DMA32, "GFP_DMA32"),
    FlagName(__GFP_RECLAIM, "__GFP_RECLAIM"),
    FlagName(__GFP_NO_OBJ_EXT, "__GFP_NO_OBJ_EXT"),
)

GFP_VALUES: Final[Mapping[str, int]] = MappingProxyType(
    {name: mask for mask, name in (*_BITS, *_COMPOSITES, *_OTHERS)}
)
"""Every ``GFP_*`` and ``__GFP_*`` name that parse_gfp() accepts, and its value."""


def _names(*names: str) -> tuple[FlagName, ...]:
    return tuple(FlagName(GFP_VALUES[name], name) for name in names)


GFP_NAMES_6_12: Final = (
    *_COMPOSITES,
    *_names("__GFP_HIGHMEM", "GFP_DMA32", "__GFP_HIGH", "__GFP_IO", "__GFP_FS", "__GFP_NOWARN"),
    *_names("__GFP_RETRY_MAYFAIL", "__GFP_NOFAIL", "__GFP_NORETRY", "__GFP_COMP", "__GFP_ZERO"),
    *_names("__GFP_NOMEMALLOC", "__GFP_MEMALLOC", "__GFP_HARDWALL", "__GFP_THISNODE"),
    *_names("__GFP_RECLAIMABLE", "__GFP_MOVABLE", "__GFP_ACCOUNT", "__GFP_WRITE"),
    *_names("__GFP_RECLAIM", "__GFP_DIRECT_RECLAIM", "__GFP_KSWAPD_RECLAIM", "__GFP_ZEROTAGS"),
)
"""Names in the order of Linux 6.12 (include/trace/events/mmflags.h)."""

_AFTER_HIGH: Final = [name for _, name in GFP_NAMES_6_12].index("__GFP_HIGH") + 1
# GFP_ATOMIC and GFP_NOWAIT keep the values of 6.12. With the values of 6.1 (0xa20, 0x800), masks
# of 6.12 would print as something nobody wrote: 0x820 as GFP_NOWAIT|__GFP_HIGH, 0x2800 as
# GFP_NOWAIT|__GFP_NOWARN. The masks of a running 6.1 are named by that kernel's own rows.
# No mask of 6.12 contains __GFP_ATOMIC, so parse_gfp() does not accept it.
GFP_NAMES_6_1: Final = (
    *GFP_NAMES_6_12[:_AFTER_HIGH],
    FlagName(0x200, "__GFP_ATOMIC"),
    *GFP_NAMES_6_12[_AFTER_HIGH:],
)
"""Names in the order of Linux 6.1, which also has ``__GFP_ATOMIC``."""

GFP_NAMES_NEXT: Final = (*_COMPOSITES, *_names("GFP_DMA32", "__GFP_RECLAIM"), *_BITS)
"""Names in the order of kernels after 6.19: single bits are in the order of their numbers."""

_HEX: Final = re.compile(r"0[xX][0-9a-fA-F]{1,16}")
_DECIMAL: Final = re.compile(r"[0-9]{1,16}")


def decode_gfp(gfp_mask: int, names: Iterable[FlagName] = GFP_NAMES_6_12) -> str:
    """
    Return the names of the bits of a gfp mask, as ``%pGg`` prints them.

    >>> decode_gfp(0x140CCA)
    'GFP_HIGHUSER_MOVABLE|__GFP_COMP'
    >>> decode_gfp(0x1000CC0)
    'GFP_KERNEL|0x1000000'

    :param gfp_mask: ``gfp_t``
    :param names: table of the kernel whose text is wanted
    :return: names joined by ``|``; bits without a name come last, in hex; empty for 0
    """
    return format_flags(gfp_mask, names)


def format_gfp(gfp_mask: int, names: Iterable[FlagName] = GFP_NAMES_6_12) -> str:
    """
    Format a gfp mask as page_owner prints it after ``mask`` (``%#x(%pGg)``).

    >>> format_gfp(0x820)
    '0x820(GFP_ATOMIC)'
    >>> format_gfp(0)
    '0x0()'

    :param gfp_mask: ``gfp_t``
    :param names: table of the kernel whose text is wanted
    :return: the number in hex, and its names in parentheses
    """
    return f"{gfp_mask:#x}({decode_gfp(gfp_mask, names)})"


def parse_gfp(text: str) -> int:
    """
    Parse a gfp mask that a user wrote; the inverse of decode_gfp().

    >>> hex(parse_gfp("GFP_KERNEL|__GFP_ZERO"))
    '0xdc0'
    >>> parse_gfp("0xcc0") == parse_gfp("3264") == GFP_KERNEL
    True

    :param text: the kernel's names, and numbers (hex with 0x, or decimal), joined by ``|``, ``,``
        or ``+``; blanks around them are ignored
    :return: ``gfp_t``, ``[0, 0xffffffff]``
    :raises ValueError: a name is unknown (the message lists them all), a part is empty, or the
        mask has more than 32 bits
    """
    gfp_mask = 0
    unknown = []
    for part in re.split(r"[|,+]", text):
        token = part.strip()
        if token in GFP_VALUES:
            gfp_mask |= GFP_VALUES[token]
        elif _HEX.fullmatch(token):
            gfp_mask |= int(token, 16)
        elif _DECIMAL.fullmatch(token):
            gfp_mask |= int(token)
        else:
            unknown.append(repr(token))
    if unknown:
        message = (
            f"gfp mask {text!r}: unknown: {', '.join(unknown)}; write names such as "
            "GFP_KERNEL|__GFP_ZERO, or a number such as 0xcc0"
        )
        raise ValueError(message)
    if gfp_mask > GFP_MASK_MAX:
        message = f"gfp mask {text!r}: more than 32 bits; the largest is {GFP_MASK_MAX:#x}"
        raise ValueError(message)
    return gfp_mask


def gfp_migratetype(gfp_mask: int) -> int:
    """
    Return the migratetype that a mask asks for.

    Mirrors gfp_migratetype() of include/linux/gfp.h: bits 3 and 4. Setting both makes no sense;
    the kernel then returns 3 (HighAtomic), and so does this function.

    :param gfp_mask: ``gfp_t``
    :return: ``MIGRATE_UNMOVABLE`` (0), ``MIGRATE_MOVABLE`` (1), ``MIGRATE_RECLAIMABLE`` (2), or 3
    """
    return (gfp_mask & GFP_MOVABLE_MASK) >> 3
