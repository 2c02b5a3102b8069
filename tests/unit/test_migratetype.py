"""Migratetypes and migrate reasons: numbers and names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from pageownerfs.mm import migratetype as mt
from pageownerfs.mm.migratetype import migrate_reason_name, migratetype_name

if TYPE_CHECKING:
    from pageownerfs.page_owner_sort import Record


@pytest.mark.parametrize(
    ("constant", "name"),
    [
        pytest.param(mt.MIGRATE_UNMOVABLE, "Unmovable", id="0"),
        pytest.param(mt.MIGRATE_MOVABLE, "Movable", id="1"),
        pytest.param(mt.MIGRATE_RECLAIMABLE, "Reclaimable", id="2"),
        pytest.param(mt.MIGRATE_HIGHATOMIC, "HighAtomic", id="3"),
        pytest.param(mt.MIGRATE_CMA, "CMA", id="4"),
        pytest.param(mt.MIGRATE_ISOLATE, "Isolate", id="5"),
    ],
)
def test_migratetype_name(constant: int, name: str) -> None:
    """Each constant is the index of the kernel's name."""
    assert migratetype_name(constant) == name


@pytest.mark.parametrize(
    ("constant", "name"),
    [
        pytest.param(0, "compaction", id="0"),
        pytest.param(1, "memory_failure", id="1"),
        pytest.param(2, "memory_hotplug", id="2"),
        pytest.param(3, "syscall_or_cpuset", id="3"),
        pytest.param(4, "mempolicy_mbind", id="4"),
        pytest.param(5, "numa_misplaced", id="5"),
        pytest.param(6, "contig_range", id="6"),
        pytest.param(7, "longterm_pin", id="7"),
        pytest.param(8, "demotion", id="8"),
        pytest.param(9, "damon", id="9"),
    ],
)
def test_migrate_reason_name(constant: int, name: str) -> None:
    """Each constant is the index of the kernel's name."""
    assert migrate_reason_name(constant) == name


@pytest.mark.parametrize("index", [-1, mt.MIGRATE_TYPES, 255])
def test_no_migratetype(index: int) -> None:
    """A number that is not a migratetype is refused, even a negative one."""
    with pytest.raises(ValueError, match=f"migratetype {index} is out of range: 0 to 5"):
        migratetype_name(index)


@pytest.mark.parametrize("reason", [mt.MR_NEVER, len(mt.MIGRATE_REASON_NAMES)])
def test_no_migrate_reason(reason: int) -> None:
    """Never migrated is not a reason, and neither is a number beyond the last."""
    with pytest.raises(ValueError, match=f"migrate reason {reason} is out of range: 0 to 9"):
        migrate_reason_name(reason)


def test_types_of_the_dump(oracle_records: list[Record]) -> None:
    """All names that a kernel printed for types and reasons are known."""
    types = {
        str(name, "ascii")
        for record in oracle_records
        for name in (record.page_mt, record.pageblock_mt)
        if name
    }
    reasons = {
        match[1].decode()
        for record in oracle_records
        if (
            match := re.search(
                rb"^Page has been migrated, last migrate reason: (.*)$",
                record.notes,
                re.MULTILINE,
            )
        )
    }
    assert types <= set(mt.MIGRATETYPE_NAMES)
    assert reasons <= set(mt.MIGRATE_REASON_NAMES)
    assert reasons
