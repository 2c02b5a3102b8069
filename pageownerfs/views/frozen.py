"""A source as it was: the copy of its records, and what else its files said at that moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pageownerfs._native import RecordTable
    from pageownerfs.mm.vocabulary import Vocabulary
    from pageownerfs.mm.zone import ZoneRange

    from .view import Need, Source


class FrozenSource:
    """What views ask of a source, answered from a copy. Stacks and names are the live one's."""

    def __init__(self, source: Source, table: RecordTable) -> None:
        """
        Keep what is to stay.

        :param source: the live one
        :param table: the copy of its table
        """
        self._source = source
        self._table = table
        needs: tuple[Need, ...] = ("owners", "pid", "tgid", "free_areas", "pagetypeinfo")
        self._lacks = {need: source.lacks(need) for need in needs}
        self._memcg_lines = {
            memcg: source.memcg_lines(memcg)
            for memcg in {memcg for _, memcg, _, _, _ in table.infos()}
            if memcg
        }
        self._zone_ranges = list(source.zone_ranges())
        self._buddyinfo = [] if self._lacks["free_areas"] else list(source.buddyinfo())
        self._pagetypeinfo = "" if self._lacks["pagetypeinfo"] else source.pagetypeinfo()
        self._stats = dict(source.stats())
        self._stack_counts: list[tuple[int, int]] | None = None

    @property
    def nr_bytes(self) -> int:
        """Memory that the records take."""
        return self._table.nr_bytes

    page_owner_on = True

    def lacks(self, need: Need, /) -> str | None:
        """Tell why something is not in the copy; what the live one lacked, and what changes."""
        return self._lacks.get(need, "a copy does not change")

    def enable_page_owner(self) -> None:
        """Nothing to do: it is on."""

    def table(self) -> RecordTable:
        """Give the copy."""
        return self._table

    def update(self) -> None:
        """Nothing to do: it stays as it is."""

    def snapshot(self, max_bytes: int, /) -> RecordTable:
        """Give the copy itself."""
        del max_bytes
        return self._table

    @property
    def vocabulary(self) -> Vocabulary:
        """That of the live one."""
        return self._source.vocabulary

    def stack_text(self, handle: int, /, *, source_lines: bool = False) -> bytes:
        """As the live one: a stack never changes."""
        return self._source.stack_text(handle, source_lines=source_lines)

    def memcg_lines(self, memcg: int, /) -> bytes:
        """What was said of a cgroup then."""
        return self._memcg_lines.get(memcg, b"")

    def stack_counts(self) -> Sequence[tuple[int, int]]:
        """Counted in the copy, once; in the order of the live one."""
        if self._stack_counts is None:
            counts = {handle: pages for handle, pages, _ in self._table.count_stacks()}
            order = [handle for handle, _ in self._source.stack_counts()]
            # One whose pages are all gone need not be known there any more.
            known = [handle for handle in order if handle in counts]
            others = sorted(counts.keys() - set(known), reverse=True)
            self._stack_counts = [(handle, counts[handle]) for handle in known + others]
        return self._stack_counts

    def page_state(self, pfn: int, /) -> Mapping[str, Any]:
        """Nothing more is known of a page than its record."""
        del pfn
        return {}

    @property
    def boot_nsec(self) -> int | None:
        """As the live one: its owners are the same processes."""
        return self._source.boot_nsec

    def zone_ranges(self) -> Sequence[ZoneRange]:
        """As they were."""
        return self._zone_ranges

    def buddyinfo(self) -> Sequence[tuple[int, str, Sequence[int]]]:
        """As it was."""
        return self._buddyinfo

    def pagetypeinfo(self) -> str:
        """As it was."""
        return self._pagetypeinfo

    def stats(self) -> Mapping[str, int]:
        """As they were."""
        return self._stats
