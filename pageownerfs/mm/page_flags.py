"""
The flags word of a page (``struct page.flags``, include/linux/page-flags.h).

The low bits are flags, the top bits fields such as the zone. Which optional flags and which
fields a kernel has depends on its configuration; a pool has those of a 6.12 kernel on x86-64 with
CONFIG_PAGE_IDLE_FLAG, without CONFIG_MEMORY_FAILURE, CONFIG_X86_PAT and CONFIG_NUMA.
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
# They take the next bits in this order, those that are configured.
_OPTIONAL_FLAGS: Final = ("mlocked", "hwpoison", "young", "idle", "arch_2", "arch_3")
# The order of printing is another one (include/trace/events/mmflags.h). It has the flags of all
# kernels from 5.15 to 6.18: none has all of them, and those that two have come in one order.
_PRINT_ORDER: Final = (
    *("locked", "waiters", "error", "referenced", "uptodate", "dirty", "lru", "active"),
    *("workingset", "slab", "owner_priv_1", "owner_2", "arch_1", "reserved", "private"),
    *("private_2", "writeback", "head", "mappedtodisk", "reclaim", "swapbacked", "unevictable"),
    *("dropbehind", "mlocked", "uncached", "hwpoison", "idle", "young", "arch_2", "arch_3"),
    "skip_kasan_poison",
)


def page_flag_bits_6_12(optional: Collection[str]) -> Mapping[str, int]:
    """
    Number the flags of a 6.12 kernel (``enum pageflags``).

    :param optional: the optional flags that it has: of mlocked, hwpoison, young, idle, arch_2,
        arch_3
    :return: name -> bit number
    :raises ValueError: a name is no optional flag
    """
    unknown = sorted(set(optional) - set(_OPTIONAL_FLAGS))
    if unknown:
        known = ", ".join(_OPTIONAL_FLAGS)
        message = f"no optional page flags: {', '.join(unknown)}; there are {known}"
        raise ValueError(message)
    flags = (*_FLAGS, *(name for name in _OPTIONAL_FLAGS if name in optional))
    return MappingProxyType({name: bit for bit, name in enumerate(flags)})


PAGE_FLAG_BITS: Final = page_flag_bits_6_12(("mlocked", "young", "idle"))
"""Bit number of each page flag of a pool, by name: ``PG_head`` is ``PAGE_FLAG_BITS["head"]``."""


def page_flag_names(
    bits: Mapping[str, int], *, young_before_idle: bool = False
) -> tuple[FlagName, ...]:
    """
    Make the table of names that ``%pGp`` prints by.

    :param bits: name -> bit number, as page_flag_bits_6_12() returns it
    :param young_before_idle: kernels before 6.3 print these two the other way round
    :return: rows in the order of printing, which is not the order of the bits; flags that no
        kernel from 5.15 to 6.18 has come last, in the order of their bits
    """
    order = {name: index for index, name in enumerate(_PRINT_ORDER)}
    if young_before_idle:
        order["young"], order["idle"] = order["idle"], order["young"]
    names = sorted(bits, key=lambda name: (order.get(name, len(order)), bits[name]))
    return tuple(FlagName(1 << bits[name], name) for name in names)


PAGE_FLAG_NAMES: Final = page_flag_names(PAGE_FLAG_BITS)
"""Names of the page flags of a pool, in the order of printing."""


class PageFlagsField(NamedTuple):
    """A number kept in the top bits of the flags word (include/linux/page-flags-layout.h)."""

    name: str
    """As printed: section, node, zone, lastcpupid or kasantag."""
    shift: int
    """Number of its lowest bit."""
    width: int
    """Number of bits, > 0."""
    base: Literal[10, 16]
    """How it is printed: 10, or 16 with 0x in front."""

    def format(self, flags: int) -> str:
        """Format the field of a flags word: ``zone=1``, ``lastcpupid=0x1fffff``."""
        value = flags >> self.shift & ((1 << self.width) - 1)
        return f"{self.name}={value:#x}" if self.base == 16 else f"{self.name}={value}"


PAGE_FLAGS_FIELDS: Final = (PageFlagsField("zone", 62, 2, 10),)
"""Fields of a pool's flags word: the zone in the top two bits, as without NUMA."""


def page_flags_mask(names: Collection[FlagName]) -> int:
    """
    Tell which bits of the flags word are flags: PAGEFLAGS_MASK.

    What lies above the last flag is no flag, named or not.

    :param names: table of the kernel, not empty
    """
    return (1 << max(mask for mask, _ in names).bit_length()) - 1


def decode_page_flags(flags: int, names: Collection[FlagName] = PAGE_FLAG_NAMES) -> str:
    """
    Name the flags of a flags word, without its fields.

    >>> decode_page_flags(0x4000000000020828)
    'uptodate|lru|owner_2|swapbacked'

    :param flags: ``unsigned long``, the whole word
    :param names: table of the kernel that it comes from, not empty
    :return: names joined by ``|``; empty if no flag is set
    """
    return format_flags(flags & page_flags_mask(names), names)


def format_page_flags(
    flags: int,
    fields: Iterable[PageFlagsField] = PAGE_FLAGS_FIELDS,
    names: Collection[FlagName] = PAGE_FLAG_NAMES,
) -> str:
    """
    Format a flags word as page_owner does after ``Flags`` (``%pGp`` of lib/vsprintf.c).

    >>> format_page_flags(0x4000000000000040)
    '0x4000000000000040(head|zone=1)'
    >>> format_page_flags(0)
    '0x0(zone=0)'

    :param flags: ``unsigned long``
    :param fields: fields of the kernel that it comes from; each is printed, also when it is 0
    :param names: its table of names
    :return: the number in hex, then names and fields in parentheses
    """
    texts = [field.format(flags) for field in fields]
    if decoded := decode_page_flags(flags, names):
        texts.insert(0, decoded)
    return f"{flags:#x}({'|'.join(texts)})"
