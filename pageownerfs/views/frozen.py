"""A source as it was: the copy of its records, and what else its files said at that moment."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from pageownerfs._native import RecordTable
    from pageownerfs.mm.need import Need
    from pageownerfs.mm.vmstat import ZoneRow
    from pageownerfs.mm.vocabulary import Vocabulary
    from pageownerfs.mm.zone import Zone
    from pageownerfs.sources.base import Source


_FILES_BYTES: Final = 64 << 10
"""What the files of a copy take beside its records, about."""


class FrozenSource:
    """What views ask of a source, answered from a copy. Stacks and names are the live one's."""

    def __init__(self, source: Source, max_bytes: int) -> None:
        """
        Copy what is there now.

        :param source: the live one
        :param max_bytes: of memory for it
        :raises OSError: ENOSPC: it would take more; EBUSY: it can't be made to stand still
        """
        self._source = source
        needs: tuple[Need, ...] = ("owners", "pid", "tgid", "free_areas", "pagetypeinfo")
        self._lacks = {need: source.lacks(need) for need in needs}
        # Stacks only ever come to the list: what is counted below may have more of them.
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
        """Memory that it takes."""
        return self._table.nr_bytes + _FILES_BYTES

    page_owner_on = True
    changes = False

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

    def standing_still(self) -> AbstractContextManager[None]:
        """Nothing changes anyhow."""
        return nullcontext()

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
            newer = sorted(counts.keys() - set(self._handles), reverse=True)
            handles = newer + self._handles
            self._stack_counts = [(handle, counts.get(handle, 0)) for handle in handles]
        return self._stack_counts

    def page_state(self, pfn: int, /) -> Mapping[str, Any]:
        """Nothing more is known of a page than its record."""
        del pfn
        return {}

    @property
    def boot_nsec(self) -> int | None:
        """As the live one: its owners are the same processes."""
        return self._source.boot_nsec

    def zones(self) -> Sequence[Zone]:
        """As they were."""
        return self._zones

    def buddyinfo(self) -> Sequence[ZoneRow]:
        """As it was."""
        return self._buddyinfo

    def pagetypeinfo(self) -> str:
        """As it was."""
        return self._pagetypeinfo

    def stats(self) -> Mapping[str, int]:
        """As they were."""
        return self._stats
