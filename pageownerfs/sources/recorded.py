"""Base class of dump and trace: a table that was recorded elsewhere and does not change."""

from __future__ import annotations

import functools
import operator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, Self

from pageownerfs import _native
from pageownerfs.mm import gfp, page_flags
from pageownerfs.mm.kstrtox import format_size
from pageownerfs.mm.migratetype import MIGRATETYPE_NAMES, migrate_reason_name
from pageownerfs.mm.vocabulary import Vocabulary
from pageownerfs.mm.zone import Zone

from .stack_counts import StackCounts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from types import TracebackType

    from pageownerfs.mm.need import Need
    from pageownerfs.mm.vmstat import ZoneRow

    from .base import Row


_SKIPPED: Final = ("damaged_records", "damaged_lines", "lost_events", "free_untracked")
ZONE_NAMES: Final = ("DMA", "DMA32", "Normal", "Movable", "Device")
"""Names of x86-64's zones by their number in the page flags."""


def status_rows(mount: Mapping[str, Any]) -> list[Row]:
    """Return the rows of status for the values of RecordedSource.describe()."""
    stats = mount["stats"]
    rows = [("file", mount["path"]), ("records", f"{stats['records']}")]
    rows.append(("memory", f"{format_size(mount['size_bytes'])} for records"))
    skipped = [f"{name} {stats[name]}" for name in _SKIPPED if stats.get(name)]
    if skipped:
        rows.append(("skipped", ", ".join(skipped)))
    return rows


class RecordedSource:
    """A source whose owners were recorded."""

    def __init__(
        self,
        table: _native.RecordTable,
        stats: Mapping[str, int],
        lacks: Mapping[Need, str],
        *,
        path: str,
        zone_names: Sequence[str] = ZONE_NAMES,
    ) -> None:
        """
        Serve ``table``.

        :param stats: counters of reading the file
        :param lacks: what the recording lacks, and why
        :param path: path of the file
        :param zone_names: names of zones by their number
        """
        self._table = table
        self._stats = dict(stats)
        self._lacks: dict[Need, str] = {"switch": "a recording cannot be switched", **lacks}
        self._path = path
        self._zone_names = zone_names
        self._infos = table.infos()
        fields = functools.reduce(operator.or_, (fields for *_, fields in self._infos), 0)
        if fields:  # 0 if the records come from a trace: they have all fields
            missing: tuple[tuple[Need, int], ...] = (
                ("pid", _native.HAS_PID),
                ("tgid", _native.HAS_TGID),
            )
            for need, bit in missing:
                if not fields & bit:
                    self._lacks[need] = f"the recorded kernel printed no {need}"
        self._stack_counts = StackCounts()
        self.vocabulary = Vocabulary(
            format_gfp=self._format_gfp,
            format_page_flags=self._format_page_flags,
            migratetype_name=self._migratetype_name,
            migratetype_names=MIGRATETYPE_NAMES,
            migrate_reason_name=migrate_reason_name,
            gfp_names=None,
            page_flags_fields=(),
        )

    def __enter__(self) -> Self:
        """Return the source; there is nothing to start."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Do nothing: there is nothing to release."""

    # base.Source

    page_owner_on = True
    changes = False

    def lacks(self, need: Need, /) -> str | None:
        """Return why the recording lacks something; None if it has it."""
        return self._lacks.get(need)

    def enable_page_owner(self) -> None:
        """Do nothing: owners are recorded."""

    def disable_page_owner(self) -> None:
        """Do nothing: owners stay recorded."""

    def table(self) -> _native.RecordTable:
        """Return the table of records."""
        return self._table

    def update(self) -> None:
        """Do nothing: a recording does not change."""

    def standing_still(self) -> AbstractContextManager[None]:
        """Do nothing: a recording does not change."""
        return nullcontext()

    def snapshot(self, max_bytes: int, /) -> _native.RecordTable:
        """Return the table itself, because it never changes."""
        del max_bytes
        return self._table

    def stack_text(self, handle: int, /, *, source_lines: bool = False) -> bytes:
        """Return the lines of a stack as recorded."""
        del source_lines
        text = self._table.text(_native.TEXT_STACK, handle)
        if text is None:
            msg = f"no stack has the handle {handle}"
            raise ValueError(msg)
        return text

    def memcg_lines(self, memcg: int, /) -> bytes:
        """Return the lines after a stack as recorded."""
        return self._table.text(_native.TEXT_MEMCG, memcg) or b""

    def stack_counts(self) -> list[tuple[int, int]]:
        """Count the pages of each stack by a pass over the table."""
        return self._stack_counts.count(self._table)

    def page_state(self, pfn: int, /) -> Mapping[str, Any]:
        """Return nothing: only records are known."""
        del pfn
        return {}

    boot_nsec = None

    def zones(self) -> list[Zone]:
        """
        Return the zones that the page flags of the records show.

        Node 0 has all zones up to the highest one with a record: the lower zones exist, too, even
        if none of their pages was allocated.
        """
        zones = {(nid, zone) for _, nid, zone, _ in self._infos}
        zones |= {(0, lower) for nid, zone in zones if nid == 0 for lower in range(zone)}
        return [
            Zone(nid, self._zone_name(zone), 0, self._table.pfn_end, flags_zone=zone)
            for nid, zone in sorted(zones)
        ]

    def _zone_name(self, zone: int) -> str:
        return self._zone_names[zone] if zone < len(self._zone_names) else f"zone{zone}"

    def buddyinfo(self) -> Sequence[ZoneRow]:
        """Raise NotImplementedError: free blocks are not recorded."""
        raise NotImplementedError

    def pagetypeinfo(self) -> str:
        """Return only the size of pageblocks: free blocks are not recorded."""
        order = self._table.pageblock_order
        return f"Page block order: {order}\nPages per block:  {1 << order}\n"

    def stats(self) -> Mapping[str, int]:
        """Return the counters of reading the file."""
        return self._stats

    def describe(self) -> dict[str, Any]:
        """Return the state, for status."""
        return {
            "page_owner_on": True,
            "path": self._path,
            "stats": self._stats,
            "size_bytes": self._table.nr_bytes,
            "nr_records": self._table.nr_records,
        }

    # Names as recorded

    def _text(self, kind: int, value: int) -> str | None:
        text = self._table.text(kind, value)
        return None if text is None else text.decode(errors="surrogateescape")

    def _format_gfp(self, gfp_mask: int) -> str:
        return self._text(_native.TEXT_GFP, gfp_mask) or gfp.format_gfp(gfp_mask)

    def _format_page_flags(self, flags: int) -> str:
        text = self._text(_native.TEXT_FLAGS, flags)
        return text or page_flags.format_page_flags(flags, fields=())

    def _migratetype_name(self, migratetype: int) -> str:
        return self._text(_native.TEXT_MIGRATETYPE, migratetype) or str(migratetype)
