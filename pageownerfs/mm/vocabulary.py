"""The names that a kernel prints for the numbers in a record; every kernel has its own tables."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from .flags import FlagName
from .gfp import GFP_NAMES_6_12, format_gfp
from .migratetype import MIGRATETYPE_NAMES, migrate_reason_name, migratetype_name
from .page_flags import PAGE_FLAG_NAMES, PAGE_FLAGS_FIELDS, PageFlagsField, format_page_flags


class Vocabulary(NamedTuple):
    """Functions that turn numbers into the text of page_owner; ValueError: no name."""

    format_gfp: Callable[[int], str]
    """``gfp_t`` -> ``0xcc0(GFP_KERNEL)``."""
    format_page_flags: Callable[[int], str]
    """``page->flags`` -> ``0x4000000000000040(head|zone=1)``."""
    migratetype_name: Callable[[int], str]
    """Migratetype -> ``Movable``."""
    migratetype_names: Sequence[str]
    """Name of each migratetype, by number."""
    migrate_reason_name: Callable[[int], str]
    """``enum migrate_reason`` -> ``compaction``."""
    gfp_names: tuple[FlagName, ...] | None
    """Table that format_gfp uses; None if it is unknown."""
    page_flag_names: tuple[FlagName, ...] = PAGE_FLAG_NAMES
    """Table of names that format_page_flags uses."""
    page_flags_fields: tuple[PageFlagsField, ...] = PAGE_FLAGS_FIELDS
    """Fields that format_page_flags prints."""


VOCABULARY: Final = Vocabulary(
    format_gfp,
    format_page_flags,
    migratetype_name,
    MIGRATETYPE_NAMES,
    migrate_reason_name,
    GFP_NAMES_6_12,
)
"""The vocabulary of Linux 6.12, which the pool follows."""
