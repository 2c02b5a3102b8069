"""
The flags word of a page (``struct page.flags``, include/linux/page-flags.h).

The low bits are flags; the top bits are fields such as the zone. A kernel's configuration decides
which optional flags and which fields it has. A pool has those of a 6.12 kernel on x86-64 with
CONFIG_PAGE_IDLE_FLAG, and without CONFIG_MEMORY_FAILURE, CONFIG_X86_PAT and CONFIG_NUMA.
"""

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from pageownerfs.mm.flags import FlagName, format_flags

# Bit 0 first (enum pageflags of 6.12).
_FLAGS: Final = (
    *("locked", "writeback", "referenced", "uptodate", "dirty", "lru", "head", "waiters"),
    *("active", "workingset", "owner_priv_1", "owner_2", "arch_1", "reserved", "private"),
    *("private_2", "reclaim", "swapbacked", "unevictable"),
)
# The flags that are configured take the next bits, in this order.
_OPTIONAL_FLAGS: Final = ("mlocked", "hwpoison", "young", "idle", "arch_2", "arch_3")
# Flags are printed in another order (include/trace/events/mmflags.h). This list has the flags of
# all kernels from 5.15 to 6.18. No kernel has all of them, but all kernels print them in this
# relative order.
_PRINT_ORDER: Final = (
    *("locked", "waiters", "error", "referenced", "uptodate", "dirty", "lru", "active"),
    *("workingset", "slab", "owner_priv_1", "owner_2", "arch_1", "reserved", "private"),
    *("private_2", "writeback", "head", "mappedtodisk", "reclaim", "swapbacked", "unevictable"),
    *("dropbehind", "mlocked", "uncached", "hwpoison", "idle", "young", "arch_2", "arch_3"),
    "skip_kasan_poison",
)


def page_flag_bits_6_12(optional: Collection[str]) -> Mapping[str, int]:
    """
    Return the bit numbers of a 6.12 kernel's page flags (``enum pageflags``).

    :param optional: the optional flags that are configured: any of mlocked, hwpoison, young, idle,
        arch_2, arch_3
    :return: name -> bit number
    :raises ValueError: a name is not an optional flag
    """
    unknown = sorted(set(optional) - set(_OPTIONAL_FLAGS))
    if unknown:
        known = ", ".join(_OPTIONAL_FLAGS)
        message = f"unknown optional page flags: {', '.join(unknown)}; known: {known}"
        raise ValueError(message)
    flags = (*_FLAGS, *(name for name in _OPTIONAL_FLAGS if name in optional))
    return MappingProxyType({name: bit for bit, name in enumerate(flags)})


PAGE_FLAG_BITS: Final = page_flag_bits_6_12(("mlocked", "young", "idle"))
"""Bit number of each page flag of a pool, by name: ``PG_head`` is ``PAGE_FLAG_BITS["head"]``."""


def page_flag_names(
    bits: Mapping[str, int], *, young_before_idle: bool = False
) -> tuple[FlagName, ...]:
    """
    Make the table of names of ``%pGp``.

    :param bits: name -> bit number, as page_flag_bits_6_12() returns it
    :param young_before_idle: print young before idle, as kernels before 6.3 do
    :return: rows in the order of printing, which is not the order of the bits; flags that no
        kernel from 5.15 to 6.18 has come last, in the order of their bits
    """
    order = {name: index for index, name in enumerate(_PRINT_ORDER)}
    if young_before_idle:
        order["young"], order["idle"] = order["idle"], order["young"]
    names = sorted(bits, key=lambda name: (order.get(name, len(order)), bits[name]))
    return tuple(FlagName(1 << bits[name], name) for name in names)


PAGE_FLAG_NAMES: Final = page_flag_names(PAGE_FLAG_BITS)
"""Names of a pool's page flags, in the order of printing."""


class PageFlagsField(NamedTuple):
    """A number in the top bits of the flags word (include/linux/page-flags-layout.h)."""

    name: str
    """Printed name: section, node, zone, lastcpupid or kasantag."""
    shift: int
    """Number of the field's lowest bit."""
    width: int
    """Number of bits, > 0."""
    base: Literal[10, 16]
    """Base in which it is printed: 10, or 16 with 0x."""

    def format(self, flags: int) -> str:
        """Format this field of a flags word: ``zone=1``, ``lastcpupid=0x1fffff``."""
        value = flags >> self.shift & ((1 << self.width) - 1)
        return f"{self.name}={value:#x}" if self.base == 16 else f"{self.name}={value}"


PAGE_FLAGS_FIELDS: Final = (PageFlagsField("zone", 62, 2, 10),)
"""Fields of a pool's flags word: the zone in the top two bits, as in a kernel without NUMA."""


def page_flags_mask(names: Collection[FlagName]) -> int:
    """
    Return the mask of the bits of the flags word that are flags: PAGEFLAGS_MASK.

    The bits above the last flag are fields, whatever they contain.

    :param names: table of the kernel, not empty
    """
    return (1 << max(mask for mask, _ in names).bit_length()) - 1


def decode_page_flags(flags: int, names: Collection[FlagName] = PAGE_FLAG_NAMES) -> str:
    """
    Return the names of the flags in a flags word, without its fields.

    >>> decode_page_flags(0x4000000000020828)
    'uptodate|lru|owner_2|swapbacked'

    :param flags: ``unsigned long``, the whole word
    :param names: table of the kernel that the word comes from, not empty
    :return: names joined by ``|``; empty if no flag is set
    """
    return format_flags(flags & page_flags_mask(names), names)


def format_page_flags(
    flags: int,
    fields: Iterable[PageFlagsField] = PAGE_FLAGS_FIELDS,
    names: Collection[FlagName] = PAGE_FLAG_NAMES,
) -> str:
    """
    Format a flags word as page_owner prints it after ``Flags`` (``%pGp`` of lib/vsprintf.c).

    >>> format_page_flags(0x4000000000000040)
    '0x4000000000000040(head|zone=1)'
    >>> format_page_flags(0)
    '0x0(zone=0)'

    :param flags: ``unsigned long``
    :param fields: fields of the kernel that the word comes from; a field of 0 is printed, too
    :param names: table of that kernel
    :return: the number in hex, then names and fields in parentheses
    """
    texts = [field.format(flags) for field in fields]
    if decoded := decode_page_flags(flags, names):
        texts.insert(0, decoded)
    return f"{flags:#x}({'|'.join(texts)})"
