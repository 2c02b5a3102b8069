"""
Replay of a recorded trace: which pages are allocated at its end, by whom.

Mirrors set_page_owner() and reset_page_owner() of mm/page_owner.c, with whole blocks instead of
single pages. A recording need not be complete: events may be lost, and pages may have been
allocated before it began, in bulk, or been split, which has no event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from pageownerfs.mm.zone import MAX_PAGE_ORDER
from pageownerfs.text.input import open_input
from pageownerfs.text.progress import no_progress

from .events import Counts, Event, read_events

if TYPE_CHECKING:
    from pageownerfs.text.progress import Progress


class TracedPage(NamedTuple):
    """A block of pages at the end of the replay."""

    pfn: int
    """Of its first page, a multiple of 2^order."""
    order: int
    """``[0, 51]``; that of the allocation, unless part of it was freed or allocated again."""
    gfp_mask: int
    """``gfp_t``, from its names."""
    migratetype: int
    """As in the event: what the mask asked for, by its number in the recorded kernel."""
    pid: int
    tgid: int
    """The pid, where the text has no tgid."""
    comm: bytes
    """At most 15 bytes, of any value but NUL; blanks at its start are lost in the text."""
    ts_nsec: int
    """By the clock of the trace."""
    stack: bytes
    """Lines of page_owner, innermost frame first; empty if not recorded."""
    freed: bool
    """Not allocated any more; the other ``free_`` fields are 0 and empty for one that is."""
    free_ts_nsec: int
    free_pid: int
    free_tgid: int
    free_stack: bytes


class Replay(NamedTuple):
    """What a recording says of the time of its end, or of the time that was asked for."""

    pages: list[TracedPage]
    """By ascending PFN; blocks that are allocated, and those that were freed since. No two of
    them overlap."""
    stats: dict[str, int]
    """
    ``alloc_events``, ``free_events``: replayed. ``other_events``: not of ours. ``lost_events``: by
    the tracer, as it says. ``free_untracked``: frees of pages that the recording does not know as
    allocated. ``implied_frees``: blocks ended by an allocation of their pages. ``splits``: frees
    of a part of a block. ``damaged_lines``: events that can't be read. ``cut_events``: 1 if the
    end of the text is no whole line. ``failed_allocs``: allocations that gave no page.
    ``unknown_gfp_names``, ``stacks``: different ones.
    """
    last_ts_nsec: int
    """Time of the last event replayed, by the clock of the trace; 0 if there is none."""


_NEVER: Final = Event(
    is_alloc=False,
    pfn=0,
    order=0,
    gfp_mask=0,
    migratetype=0,
    pid=0,
    tgid=0,
    comm=b"",
    ts_nsec=0,
    stack=b"",
)


class _Block(NamedTuple):
    order: int
    alloc: Event
    free: Event | None
    """None: it is allocated."""


class _Pages:
    """The blocks known, allocated and freed, by the PFN of their first page. None overlap."""

    def __init__(self) -> None:
        self.blocks: dict[int, _Block] = {}
        self.nr_alloc = self.nr_free = 0
        self.nr_untracked = self.nr_implied = self.nr_splits = 0
        self._orders: list[int] = []
        """All orders that a block ever had."""

    def alloc(self, event: Event) -> None:
        """Begin a block, and end what was known of its pages."""
        self.nr_alloc += 1
        pfn, order = event.pfn, event.order
        known = self.blocks.get(pfn)
        if known and known.order == order:
            # Then there is nothing else, within or around.
            if not known.free:
                self.nr_implied += 1
        else:
            self._make_room(pfn, order)
            if order not in self._orders:
                self._orders.append(order)
        self.blocks[pfn] = _Block(order, event, None)

    def free(self, event: Event) -> None:
        """End a block, or all that lie within one, or a part of one."""
        self.nr_free += 1
        pfn, order = event.pfn, event.order
        known = self.blocks.get(pfn)
        if known and known.order == order:
            inside = [pfn]
        elif (head := self._around(pfn, order)) is not None:
            if self.blocks[head].free:
                inside = []
            else:
                self.nr_splits += 1
                self._split(head, pfn, order)
                inside = [pfn]
        else:
            inside = self._within(pfn, order)
        allocated = [head for head in inside if not self.blocks[head].free]
        if not allocated:
            self.nr_untracked += 1
        for head in allocated:
            block = self.blocks[head]
            self.blocks[head] = _Block(block.order, block.alloc, event)

    def traced(self) -> list[TracedPage]:
        """List all blocks in the order of their PFNs."""
        return [_traced(pfn, *block) for pfn, block in sorted(self.blocks.items())]

    def _make_room(self, pfn: int, order: int) -> None:
        head = self._around(pfn, order)
        if head is None:
            ended = self._within(pfn, order)
        elif self.blocks[head].free:
            # The other pages of it were still freed when it says.
            self._split(head, pfn, order)
            ended = [pfn]
        else:
            ended = [head]
        for head in ended:
            if not self.blocks.pop(head).free:
                self.nr_implied += 1

    def _around(self, pfn: int, order: int) -> int | None:
        """Find the larger block that holds this one."""
        for larger in self._orders:
            if larger > order:
                head = pfn >> larger << larger
                block = self.blocks.get(head)
                if block and block.order == larger:
                    return head
        return None

    def _within(self, pfn: int, order: int) -> list[int]:
        """Find all blocks that this one holds."""
        end_pfn = pfn + (1 << order)
        if end_pfn - pfn > len(self.blocks):
            return [head for head in self.blocks if pfn <= head < end_pfn]
        return [head for head in range(pfn, end_pfn) if head in self.blocks]

    def _split(self, head: int, pfn: int, order: int) -> None:
        """Split a block, as split_page() does, so that the one of pfn and order is a block."""
        order_now, alloc, free = self.blocks.pop(head)
        while order_now > order:
            # A line of text could ask for 2^51 pages at once: such a block is halved first.
            piece = order if order_now <= MAX_PAGE_ORDER else order_now - 1
            if piece not in self._orders:
                self._orders.append(piece)
            inside = pfn >> piece << piece
            for other in range(head, head + (1 << order_now), 1 << piece):
                if other != inside:
                    self.blocks[other] = _Block(piece, alloc, free)
            head, order_now = inside, piece
        self.blocks[pfn] = _Block(order, alloc, free)


def _traced(pfn: int, order: int, alloc: Event, freed_by: Event | None) -> TracedPage:
    free = freed_by or _NEVER
    return TracedPage(
        pfn=pfn,
        order=order,
        gfp_mask=alloc.gfp_mask,
        migratetype=alloc.migratetype,
        pid=alloc.pid,
        tgid=alloc.tgid,
        comm=alloc.comm,
        ts_nsec=alloc.ts_nsec,
        stack=alloc.stack,
        freed=freed_by is not None,
        free_ts_nsec=free.ts_nsec,
        free_pid=free.pid,
        free_tgid=free.tgid,
        free_stack=free.stack,
    )


def replay(
    path: str,
    until_nsec: int | None = None,
    progress: Progress = no_progress,
) -> Replay:
    """
    Replay a recording of kmem:mm_page_alloc and kmem:mm_page_free.

    :param path: text of ftrace, trace-cmd report or perf script; plain or packed (gzip, xz, zstd);
        ``-``: standard input
    :param until_nsec: by the clock of the trace: leave out, and don't count, what is later
    :param progress: its records are events of pages
    :raises PageOwnerError: it can't be read, or is no such recording
    """
    counts, pages, last_ts_nsec = Counts(), _Pages(), 0
    alloc, free = pages.alloc, pages.free
    with open_input(path) as source:

        def on_chunk() -> None:
            progress(source.nr_bytes, source.total_bytes, pages.nr_alloc + pages.nr_free)

        for event in read_events(source, counts, until_nsec, on_chunk):
            # Not the time of the last one alone: CPUs need not be quite in order.
            if event.ts_nsec > last_ts_nsec:  # noqa: PLR1730 - max() is three times slower
                last_ts_nsec = event.ts_nsec
            if event.is_alloc:
                alloc(event)
            else:
                free(event)
        stats = {**_stats(pages, counts), "cut_files": int(source.is_cut)}
    return Replay(pages.traced(), stats, last_ts_nsec)


def _stats(pages: _Pages, counts: Counts) -> dict[str, int]:
    return {
        "alloc_events": pages.nr_alloc,
        "free_events": pages.nr_free,
        "other_events": counts.other_events,
        "lost_events": counts.lost_events,
        "free_untracked": pages.nr_untracked,
        "implied_frees": pages.nr_implied,
        "splits": pages.nr_splits,
        "damaged_lines": counts.damaged_lines,
        "cut_events": counts.cut_events,
        "failed_allocs": counts.failed_allocs,
        "unknown_gfp_names": len(counts.unknown_gfp_names),
        "stacks": counts.nr_stacks,
    }
