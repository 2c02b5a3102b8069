"""A source that has records and their names, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from pageownerfs.mm.vocabulary import VOCABULARY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pageownerfs import _native
    from pageownerfs.mm.zone import Zone


class MinimalSource:
    """The part of a source that page_owner needs; a test provides table() and stack_text()."""

    page_owner_on = True
    changes = True
    vocabulary = VOCABULARY
    boot_nsec = None

    def lacks(self, need: str, /) -> str | None:
        """Lack everything that is not under test."""
        return None if need == "owners" else "it is not tested here"

    def enable_page_owner(self) -> None:
        """Do nothing: tracking is on."""

    def disable_page_owner(self) -> None:
        """Do nothing: tracking stays on."""

    def table(self) -> _native.Table:
        """Return the owners."""
        raise NotImplementedError

    def update(self) -> None:
        """Do nothing."""

    def snapshot(self, max_bytes: int, /) -> _native.RecordTable:
        """Copy the table."""
        return self.table().snapshot(max_bytes)

    def stack_text(self, handle: int, /, *, source_lines: bool = False) -> bytes:
        """Return the lines of a stack."""
        raise NotImplementedError

    def memcg_lines(self, memcg: int, /) -> bytes:
        """Return nothing: the tables have no cgroups."""
        del memcg
        return b""

    def stack_counts(self) -> NoReturn:
        """Not under test."""
        raise NotImplementedError

    def page_state(self, pfn: int, /) -> dict[str, str]:
        """Return that nothing is known."""
        del pfn
        return {}

    def zones(self) -> list[Zone]:
        """Return no zones."""
        return []

    def buddyinfo(self) -> NoReturn:
        """Not under test."""
        raise NotImplementedError

    def pagetypeinfo(self) -> NoReturn:
        """Not under test."""
        raise NotImplementedError

    def stats(self) -> Mapping[str, int]:
        """Return no counters."""
        return {}
