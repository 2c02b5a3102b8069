"""
Replay a recorded trace to find which pages are allocated at its end, and by whom.

Mirrors set_page_owner() and reset_page_owner() of mm/page_owner.c, with whole blocks instead of
single pages. A recording may be incomplete: events may be lost, and pages may have been allocated
before it began, allocated in bulk, or split, which has no event.
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
    """PFN of the first page, a multiple of 2^order."""
    order: int
    """``[0, 51]``: order of the allocation, unless part of it was freed or allocated again."""
    gfp_mask: int
    """``gfp_t``, parsed from its names."""
    migratetype: int
    """Migratetype that the mask asks for: the event's number, of the recorded kernel."""
    pid: int
    tgid: int
    """The pid if the text has no tgid."""
    comm: bytes
    """Up to 15 bytes of any value except NUL; the text loses leading blanks."""
    ts_nsec: int
    """Time of the allocation by the trace's clock."""
    stack: bytes
    """Lines as in page_owner, innermost frame first; empty if not recorded."""
    freed: bool
    """Whether the block was freed; if not, the ``free_`` fields are 0 or empty."""
    free_ts_nsec: int
    free_pid: int
    free_tgid: int
    free_stack: bytes


class Replay(NamedTuple):
    """State at the end of a recording, or at the requested time."""

    pages: list[TracedPage]
    """Blocks by ascending PFN, those allocated and those freed. No two of them overlap."""
    stats: dict[str, int]
    """
    ``alloc_events``, ``free_events``: events replayed. ``other_events``: events of other kinds.
    ``lost_events``: events that the tracer reports as lost. ``free_untracked``: frees of pages
    whose allocation is not in the recording. ``implied_frees``: blocks whose pages were allocated
    again without a free. ``splits``: frees of a part of a block. ``damaged_lines``: events that
    can't be parsed. ``cut_events``: 1 if the text ends within a line. ``failed_allocs``:
    allocations that returned no page. ``unknown_gfp_names``, ``stacks``: distinct ones.
    """
    last_ts_nsec: int
    """Time of the last event replayed, by the trace's clock; 0 if there is none."""


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
    """The event that freed the block; None if it is allocated."""


class _Pages:
    """Known blocks, allocated and freed, by the PFN of their first page; they don't overlap."""

    def __init__(self) -> None:
        self.blocks: dict[int, _Block] = {}
        self.nr_alloc = self.nr_free = 0
        self.nr_untracked = self.nr_implied = self.nr_splits = 0
        self._orders: list[int] = []
        """All orders that any block has had."""

    def alloc(self, event: Event) -> None:
        """Begin a block, and end the known blocks of its pages."""
        self.nr_alloc += 1
        pfn, order = event.pfn, event.order
        known = self.blocks.get(pfn)
        if known and known.order == order:
            # So there is no other block within or around it.
            if not known.free:
                self.nr_implied += 1
        else:
            self._make_room(pfn, order)
            if order not in self._orders:
                self._orders.append(order)
        self.blocks[pfn] = _Block(order, event, None)

    def free(self, event: Event) -> None:
        """End a block, all blocks within a range, or a part of a block."""
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
            # The block's other pages keep their record of the free.
            self._split(head, pfn, order)
            ended = [pfn]
        else:
            ended = [head]
        for head in ended:
            if not self.blocks.pop(head).free:
                self.nr_implied += 1

    def _around(self, pfn: int, order: int) -> int | None:
        """Return the head of the larger block that contains this one; None if there is none."""
        for larger in self._orders:
            if larger > order:
                head = pfn >> larger << larger
                block = self.blocks.get(head)
                if block and block.order == larger:
                    return head
        return None

    def _within(self, pfn: int, order: int) -> list[int]:
        """Return the heads of all blocks within this one."""
        end_pfn = pfn + (1 << order)
        if end_pfn - pfn > len(self.blocks):
            return [head for head in self.blocks if pfn <= head < end_pfn]
        return [head for head in range(pfn, end_pfn) if head in self.blocks]

    def _split(self, head: int, pfn: int, order: int) -> None:
        """Split a block, as split_page() does, so that pfn and order become a block."""
        order_now, alloc, free = self.blocks.pop(head)
        while order_now > order:
            # A line of text may name a block of 2^51 pages: halve such a block first.
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

    :param path: text of ftrace, trace-cmd report or perf script, plain or compressed (gzip, xz,
        zstd); ``-`` is standard input
    :param until_nsec: ignore events after this time of the trace's clock; None for none
    :param progress: a Progress callback; its records are the events replayed
    :raises PageOwnerError: the text can't be read, or is not such a recording
    """
    counts, pages, last_ts_nsec = Counts(), _Pages(), 0
    alloc, free = pages.alloc, pages.free
    with open_input(path) as source:

        def on_chunk() -> None:
            progress(source.nr_bytes, source.total_bytes, pages.nr_alloc + pages.nr_free)

        for event in read_events(source, counts, until_nsec, on_chunk):
            # The latest time, not that of the last event: CPUs may be slightly out of order.
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
