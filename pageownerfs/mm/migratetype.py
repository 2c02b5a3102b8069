"""
Migratetypes and migrate reasons (include/linux/mmzone.h, migrate_mode.h).

The names are those of migratetype_names[] in mm/page_alloc.c and migrate_reason_names[] in
mm/debug.c of Linux 6.12, with CONFIG_CMA and CONFIG_MEMORY_ISOLATION.
"""

from typing import Final

MIGRATE_UNMOVABLE: Final = 0
MIGRATE_MOVABLE: Final = 1
MIGRATE_RECLAIMABLE: Final = 2
MIGRATE_PCPTYPES: Final = 3
"""Number of migratetypes with order-0 lists; HighAtomic comes right after them."""
MIGRATE_HIGHATOMIC: Final = MIGRATE_PCPTYPES
MIGRATE_CMA: Final = 4
MIGRATE_ISOLATE: Final = 5
MIGRATE_TYPES: Final = 6
"""Number of migratetypes."""

MIGRATETYPE_NAMES: Final = ("Unmovable", "Movable", "Reclaimable", "HighAtomic", "CMA", "Isolate")
"""Name of each migratetype, by number."""

MR_NEVER: Final = -1
"""The migrate reason of a page that was never migrated; nothing is printed for it."""
MR_SYSCALL: Final = 3
"""The only reason whose printed name differs from its enumerator."""

MIGRATE_REASON_NAMES: Final = (
    *("compaction", "memory_failure", "memory_hotplug", "syscall_or_cpuset", "mempolicy_mbind"),
    *("numa_misplaced", "contig_range", "longterm_pin", "demotion", "damon"),
)
"""Name of each migrate reason, by number."""


def _name(what: str, index: int, names: tuple[str, ...]) -> str:
    # Python would count a negative index from the end.
    if not 0 <= index < len(names):
        message = f"{what} {index} is out of range: 0 to {len(names) - 1}"
        raise ValueError(message)
    return names[index]


def migratetype_name(migratetype: int) -> str:
    """
    Return the name of a migratetype, as page_owner prints it after ``type``.

    :param migratetype: ``int``, ``[0, MIGRATE_TYPES)``
    :return: for instance ``Movable``
    :raises ValueError: ``migratetype`` is out of range
    """
    return _name("migratetype", migratetype, MIGRATETYPE_NAMES)


def migrate_reason_name(reason: int) -> str:
    """
    Return the name of a migrate reason, as page_owner prints it after ``last migrate reason:``.

    :param reason: ``enum migrate_reason``, 0 or more; MR_NEVER has no name
    :return: for instance ``compaction``
    :raises ValueError: ``reason`` is out of range
    """
    return _name("migrate reason", reason, MIGRATE_REASON_NAMES)
