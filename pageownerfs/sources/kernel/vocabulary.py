"""
The names that the running kernel prints: gfp masks, page flags, migratetypes, migrate reasons.

Which flags exist, and their numbers, depend on the kernel and its configuration. They come from
the kernel's own tables: its types (BTF), and the format of the tracepoint kmem:mm_page_alloc,
which has the gfp names.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pageownerfs.errors import MountError
from pageownerfs.mm import gfp, page_flags
from pageownerfs.mm.flags import FlagName
from pageownerfs.mm.migratetype import MIGRATE_REASON_NAMES, MIGRATETYPE_NAMES, MR_SYSCALL
from pageownerfs.mm.page_flags import PageFlagsField, page_flag_names

from .pseudo_fs import read_tracefs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pageownerfs.sources.kernel.btf import Btf

GFP_EVENT: Final = "events/kmem/mm_page_alloc/format"
"""File of tracefs that contains the table of gfp names, in C."""

_KERNEL_MAX: Final = "/sys/devices/system/cpu/kernel_max"
_BITS_PER_LONG: Final = 64

# MIGRATE_* -> name in migratetype_names[] of mm/page_alloc.c. The enum's other members are numbers
# of types, not types.
_MIGRATETYPES: Final = {f"MIGRATE_{name.upper()}": name for name in MIGRATETYPE_NAMES}
_NO_MIGRATETYPES: Final = frozenset(("MIGRATE_PCPTYPES", "__MIGRATE_TYPE_END", "MIGRATE_TYPES"))
# MR_* whose name in migrate_reason_names[] of mm/debug.c is different.
_MIGRATE_REASONS: Final = {
    "MR_SYSCALL": MIGRATE_REASON_NAMES[MR_SYSCALL],
    "MR_NEVER": "never_migrated",
}

_GFP_ROW: Final = re.compile(r'\{([^{},"]+), "([^"]+)"\}')
_C_CAST: Final = re.compile(r"\(\s*(?:unsigned long|unsigned int|gfp_t)\s*\)")
_C_SUFFIX: Final = re.compile(r"\b(0[xX][0-9a-fA-F]+|[0-9]+)[uUlL]+\b")


class KernelVocabulary:
    """
    Names of the running kernel; reading them takes about 20 ms.

    :param btf: types of the running kernel
    :raises MountError: the types lack an enum that every supported kernel has
    """

    def __init__(self, btf: Btf) -> None:
        self.gfp_names, self.gfp_source = _gfp_names()
        """Table of ``%pGg``, and its origin: "tracefs", or "built in" (that of Linux 6.12)."""
        bits = {name.removeprefix("PG_"): bit for name, bit in _enum(btf, "pageflags").items()}
        self.nr_pageflags = bits["__NR_PAGEFLAGS"]
        """Number of flags; higher bits are not flags."""
        # The enumerators after __NR_PAGEFLAGS are aliases.
        own = list(bits)[: list(bits).index("__NR_PAGEFLAGS")]
        self.page_flag_bits: Mapping[str, int] = {name: bits[name] for name in own}
        """Bit number of each page flag by its printed name: ``head``, ``reserved``, ..."""
        # Linux 6.3 changed the order, and removed this member.
        young_before_idle = btf.has_member("page", "compound_mapcount")
        self.page_flag_names = page_flag_names(
            self.page_flag_bits, young_before_idle=young_before_idle
        )
        """Table of ``%pGp``, in the order of printing."""
        self.page_flags_fields = page_flags_fields(btf, _nr_cpus(btf))
        """Fields in the top bits of the flags word, in the order of printing."""
        self.migratetype_names = migratetype_names(_enum(btf, "migratetype"))
        """Name of each migratetype, by number."""
        self.nr_migratetypes = len(self.migratetype_names)
        """MIGRATE_TYPES."""
        self.migrate_reason_names = migrate_reason_names(_enum(btf, "migrate_reason"))
        """Name of each migrate reason, by number."""

    def format_gfp(self, gfp_mask: int) -> str:
        """Format a gfp mask as page_owner prints it after ``mask`` (``%#x(%pGg)``)."""
        return gfp.format_gfp(gfp_mask, self.gfp_names)

    def format_page_flags(self, flags: int) -> str:
        """Format a flags word as page_owner prints it after ``Flags`` (``%pGp``)."""
        return page_flags.format_page_flags(flags, self.page_flags_fields, self.page_flag_names)

    def migratetype_name(self, migratetype: int) -> str:
        """
        Return the name of a migratetype, as page_owner prints it after ``type``.

        :param migratetype: ``[0, nr_migratetypes)``; other numbers are printed as they are
        """
        return _by_number(self.migratetype_names, migratetype)

    def migrate_reason_name(self, reason: int) -> str:
        """
        Return the name of a migrate reason, as printed after ``last migrate reason:``.

        :param reason: ``[0, MR_TYPES)``; other numbers are printed as they are
        """
        return _by_number(self.migrate_reason_names, reason)


def page_flags_fields(btf: Btf, nr_cpus: int) -> tuple[PageFlagsField, ...]:
    """
    Return the fields of the flags word, from the top bit down.

    Mirrors include/linux/page-flags-layout.h with CONFIG_SPARSEMEM_VMEMMAP, where the section is
    not a field and the node always fits, and pff[] of lib/vsprintf.c. LRU_GEN takes bits below
    these fields and is not printed; nor is a KASAN tag, which x86-64 doesn't have.

    :param btf: types of the kernel
    :param nr_cpus: CONFIG_NR_CPUS of the kernel
    :return: node, zone and lastcpupid, as far as the kernel has them
    """
    nr_zones = _enum(btf, "zone_type")["__MAX_NR_ZONES"]
    # MAX_ZONES_PER_ZONELIST + 1
    nr_nodes = (btf.array_length("zonelist", "_zonerefs") - 1) // nr_zones
    cpupid_width = 0
    # The member exists if the field does not fit into the flags word.
    if btf.has_member("task_struct", "numa_faults") and not btf.has_member("page", "_last_cpupid"):
        cpupid_width = 8 + order_base_2(nr_cpus)
    shift = _BITS_PER_LONG
    fields = []
    for name, width, base in (
        ("node", order_base_2(nr_nodes), 10),
        ("zone", order_base_2(nr_zones), 10),
        ("lastcpupid", cpupid_width, 16),
    ):
        shift -= width
        if width:
            fields.append(PageFlagsField(name, shift, width, 16 if base == 16 else 10))
    return tuple(fields)


def order_base_2(number: int) -> int:
    """Return the number of bits for ``[0, number)``: order_base_2() of include/linux/log2.h."""
    return (number - 1).bit_length()


def migratetype_names(enum: Mapping[str, int]) -> tuple[str, ...]:
    """Return the names of the migratetypes of ``enum migratetype``, by number."""
    types = {name: value for name, value in enum.items() if name not in _NO_MIGRATETYPES}
    return tuple(
        _MIGRATETYPES.get(name, name.removeprefix("MIGRATE_").capitalize())
        for name in sorted(types, key=types.__getitem__)
    )


def migrate_reason_names(enum: Mapping[str, int]) -> tuple[str, ...]:
    """Return the names of the reasons of ``enum migrate_reason``, by number."""
    reasons = {name: value for name, value in enum.items() if name != "MR_TYPES"}
    return tuple(
        _MIGRATE_REASONS.get(name, name.removeprefix("MR_").lower())
        for name in sorted(reasons, key=reasons.__getitem__)
    )


def parse_gfp_names(text: str) -> tuple[FlagName, ...]:
    """
    Parse the table of gfp names in a tracepoint's format.

    :param text: tracefs events/kmem/mm_page_alloc/format; its ``print fmt`` has rows such as
        ``{(unsigned long)((( gfp_t)(0x400u|0x800u)) | (( gfp_t)0x40u)), "GFP_NOFS"}``
    :return: rows in the order of printing
    :raises ValueError: there is no table, or a value is not an expression of numbers
    """
    rows = _GFP_ROW.findall(text)
    if not rows:
        raise ValueError("no gfp names in the format")
    names = [FlagName(_evaluate(value) & gfp.GFP_MASK_MAX, name) for value, name in rows]
    # A flag that is not configured has the value 0.
    return tuple(row for row in names if row.mask)


def _gfp_names() -> tuple[tuple[FlagName, ...], str]:
    try:
        return parse_gfp_names(read_tracefs(GFP_EVENT)), "tracefs"
    except (OSError, ValueError):
        return gfp.GFP_NAMES_6_12, "built in"


def _evaluate(expression: str) -> int:
    """Evaluate a C expression of numbers; for |, &, ~ and <<, Python's grammar equals C's."""
    plain = _C_SUFFIX.sub(r"\1", _C_CAST.sub("", expression))
    try:
        return _compute(ast.parse(plain.strip(), mode="eval").body)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"not an expression of numbers: {expression}") from error


def _compute(node: ast.expr) -> int:
    match node:
        case ast.Constant(value=int(value)):
            return value
        case ast.UnaryOp(op=ast.Invert(), operand=operand):
            return ~_compute(operand)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _compute(left) | _compute(right)
        case ast.BinOp(left=left, op=ast.BitAnd(), right=right):
            return _compute(left) & _compute(right)
        case ast.BinOp(left=left, op=ast.LShift(), right=right):
            # gfp_t has 32 bits; a larger shift is not a flag, and could use up all memory.
            return _compute(left) << (_compute(right) & 63)
    raise ValueError(f"not an expression of numbers: {ast.unparse(node)}")


def _enum(btf: Btf, name: str) -> dict[str, int]:
    try:
        return btf.enum(name)
    except KeyError as error:
        raise MountError(f"the kernel's types (BTF) lack the enum {name}") from error


def _nr_cpus(btf: Btf) -> int:
    """Return CONFIG_NR_CPUS; without sysfs, derive it from the size of a cpumask."""
    try:
        return int(Path(_KERNEL_MAX).read_text(encoding="ascii")) + 1
    except (OSError, ValueError):
        return btf.size_of("cpumask") * 8


def _by_number(names: tuple[str, ...], number: int) -> str:
    return names[number] if 0 <= number < len(names) else str(number)
