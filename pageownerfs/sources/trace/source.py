"""A recording of the page allocator's events as a source: the pages allocated at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pageownerfs.mm.gfp import GFP_NAMES_6_12
from pageownerfs.mm.migratetype import MR_NEVER
from pageownerfs.mm.page_ext import (
    PAGE_EXT_OWNER_ALLOCATED,
    PAGE_EXT_OWNER_FREED,
    PageOwner,
)
from pageownerfs.mm.record_table import new_record_table
from pageownerfs.sources.recorded import RecordedSource
from pageownerfs.text.progress import Progress, no_progress

from .replay import TracedPage, replay

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pageownerfs import _native

    from .options import TraceOptions


def make_table(pages: Iterable[TracedPage]) -> _native.RecordTable:
    """Make a table of the pages at the end of a replay, including freed ones."""
    table = new_record_table()
    for page in pages:
        record = PageOwner(
            ts_nsec=page.ts_nsec,
            free_ts_nsec=page.free_ts_nsec,
            gfp_mask=page.gfp_mask,
            pid=page.pid,
            tgid=page.tgid,
            handle=0,
            free_handle=0,
            free_pid=page.free_pid,
            free_tgid=page.free_tgid,
            order=page.order,
            last_migrate_reason=MR_NEVER,
            state=PAGE_EXT_OWNER_FREED if page.freed else PAGE_EXT_OWNER_ALLOCATED,
            # The pageblock's migratetype is not recorded.
            pageblock_migratetype=page.migratetype,
            comm=page.comm,
        )
        table.add(page.pfn, record.pack(), page.stack, page.free_stack, page.migratetype)
    return table


class TraceSource(RecordedSource):
    """A trace as a source."""

    def __init__(self, options: TraceOptions, progress: Progress = no_progress) -> None:
        """
        Replay the recording.

        :raises PageOwnerError: the text can't be read, or is not a recording of the events
        """
        result = replay(options.path, options.until_nsec, progress)
        table = make_table(result.pages)
        live = [page for page in result.pages if not page.freed]
        stats = {
            "records": len(live),
            "pages_allocated": sum(1 << page.order for page in live),
            "freed_records": len(result.pages) - len(live),
            **result.stats,
            "last_ts_nsec": result.last_ts_nsec,
            "record_bytes": table.nr_bytes,
        }
        super().__init__(
            table,
            stats,
            {
                "free_areas": "a trace does not show which pages are free",
                "pagetypeinfo": "a trace does not show the migratetypes of pageblocks",
            },
            path=options.path,
        )
        # The masks were made from names with this table.
        self.vocabulary = self.vocabulary._replace(gfp_names=GFP_NAMES_6_12)
