"""A frozen source: a copy of a source's records and other data at one moment."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from pageownerfs._native import RecordTable
    from pageownerfs.mm.need import Need
    from pageownerfs.mm.vmstat import ZoneRow
    from pageownerfs.mm.zone import Zone
    from pageownerfs.sources.base import Source


_FILES_BYTES: Final = 64 << 10
"""Approximate memory of a copy's files besides its records."""


class FrozenSource:
    """Answer the questions of views from a copy; stacks and names are those of its time."""

    def __init__(self, source: Source, max_bytes: int) -> None:
        """
        Copy the current state of a source.

        :param source: the live source
        :param max_bytes: limit of the copy's memory
        :raises OSError: ENOSPC: the copy would exceed the limit; EBUSY: the source can't be paused
        """
        self._source = source
        needs: tuple[Need, ...] = ("owners", "pid", "tgid", "free_areas", "pagetypeinfo")
        self.vocabulary = source.vocabulary
        self.stack_text = source.stack_text
        self._lacks = {need: source.lacks(need) for need in needs}
        # The list of stacks only grows: the copy below may contain stacks that are not in it.
        self._handles = [handle for handle, _ in source.stack_counts()]
        with source.standing_still():
            self._table = source.snapshot(max(max_bytes - _FILES_BYTES, 0))
            self._zones = list(source.zones())
            self._buddyinfo = [] if self._lacks["free_areas"] else list(source.buddyinfo())
            self._pagetypeinfo = "" if self._lacks["pagetypeinfo"] else source.pagetypeinfo()
            self._stats = dict(source.stats())
        self._memcg_lines = {
            memcg: source.memcg_lines(memcg)
            for memcg in {memcg for memcg, *_ in self._table.infos()}
            if memcg
        }
        self._stack_counts: list[tuple[int, int]] | None = None

    @property
    def nr_bytes(self) -> int:
        """Memory that the copy uses."""
        return self._table.nr_bytes + _FILES_BYTES

    page_owner_on = True
    changes = False

    def lacks(self, need: Need, /) -> str | None:
        """Return why the copy lacks something: the live source lacked it, or it would change."""
        return self._lacks.get(need, "a snapshot does not change")

    def enable_page_owner(self) -> None:
        """Do nothing: tracking is on."""

    def disable_page_owner(self) -> None:
        """Do nothing: the copy keeps its records."""

    def table(self) -> RecordTable:
        """Return the copied table."""
        return self._table

    def update(self) -> None:
        """Do nothing: the copy does not change."""

    def standing_still(self) -> AbstractContextManager[None]:
        """Do nothing: the copy does not change."""
        return nullcontext()

    def snapshot(self, max_bytes: int, /) -> RecordTable:
        """Return the copied table itself."""
        del max_bytes
        return self._table

    def memcg_lines(self, memcg: int, /) -> bytes:
        """Return the lines about a cgroup at the time of the copy."""
        return self._memcg_lines.get(memcg, b"")

    def stack_counts(self) -> Sequence[tuple[int, int]]:
        """Return the pages of each stack in the copy, in the order of the live source."""
        if self._stack_counts is None:
            counts = {handle: pages for handle, pages, _ in self._table.count_stacks()}
            newer = sorted(counts.keys() - set(self._handles), reverse=True)
            handles = newer + self._handles
            self._stack_counts = [(handle, counts.get(handle, 0)) for handle in handles]
        return self._stack_counts

    def page_state(self, pfn: int, /) -> Mapping[str, Any]:
        """Return nothing: only a page's record is copied."""
        del pfn
        return {}

    @property
    def boot_nsec(self) -> int | None:
        """The value of the live source: the owners are the same processes."""
        return self._source.boot_nsec

    def zones(self) -> Sequence[Zone]:
        """Return the copied zones."""
        return self._zones

    def buddyinfo(self) -> Sequence[ZoneRow]:
        """Return the copied free blocks."""
        return self._buddyinfo

    def pagetypeinfo(self) -> str:
        """Return the copied text."""
        return self._pagetypeinfo

    def stats(self) -> Mapping[str, int]:
        """Return the copied counters."""
        return self._stats
