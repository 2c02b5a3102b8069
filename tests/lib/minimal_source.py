"""A source that has records and their names, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from pageownerfs.mm.vocabulary import VOCABULARY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pageownerfs import _native
    from pageownerfs.mm.zone import Zone


class MinimalSource:
    """What page_owner needs of a source; a test gives table() and stack_text()."""

    page_owner_on = True
    changes = True
    vocabulary = VOCABULARY
    boot_nsec = None

    def lacks(self, need: str, /) -> str | None:
        """Lack what is not tested here."""
        return None if need == "owners" else "it is not tested here"

    def enable_page_owner(self) -> None:
        """Nothing to do: it is on."""

    def table(self) -> _native.Table:
        """Give the owners."""
        raise NotImplementedError

    def update(self) -> None:
        """Nothing to do."""

    def snapshot(self, max_bytes: int, /) -> _native.RecordTable:
        """Copy the table."""
        return self.table().snapshot(max_bytes)

    def stack_text(self, handle: int, /, *, source_lines: bool = False) -> bytes:
        """Give the lines of a stack."""
        raise NotImplementedError

    def memcg_lines(self, memcg: int, /) -> bytes:
        """No cgroups are in the tables."""
        del memcg
        return b""

    def stack_counts(self) -> NoReturn:
        """Not tested here."""
        raise NotImplementedError

    def page_state(self, pfn: int, /) -> dict[str, str]:
        """Nothing is known."""
        del pfn
        return {}

    def zones(self) -> list[Zone]:
        """No zones."""
        return []

    def buddyinfo(self) -> NoReturn:
        """Not tested here."""
        raise NotImplementedError

    def pagetypeinfo(self) -> NoReturn:
        """Not tested here."""
        raise NotImplementedError

    def stats(self) -> Mapping[str, int]:
        """No counters."""
        return {}
