"""
What a source is: Source for the views, MountSource for the daemon, SourceKind for the commands.

A source is one folder with one SourceKind, which sources/__init__.py lists; nothing else names it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from types import TracebackType

    from pageownerfs._native import RecordTable, Table
    from pageownerfs.mm.need import Need
    from pageownerfs.mm.vmstat import ZoneRow
    from pageownerfs.mm.vocabulary import Vocabulary
    from pageownerfs.mm.zone import Zone
    from pageownerfs.text.progress import Progress

    from .check import Check
    from .options import Option

Row = tuple[str, str]
"""A line of ``pageownerfs status``: name, value."""


class Source(Protocol):
    """What a view may ask its source: tables, names, counters, one switch."""

    @property
    def page_owner_on(self) -> bool:
        """Whether owners are tracked."""
        ...

    @property
    def changes(self) -> bool:
        """Whether anything can change; if not, what was found once holds."""
        ...

    def lacks(self, need: Need, /) -> str | None:
        """Tell why it can't give what is needed now; None: it can."""
        ...

    def enable_page_owner(self) -> None:
        """Switch tracking on; no-op when it is on. OSError: no memory. PageOwnerError: can't."""
        ...

    def table(self) -> Table:
        """Give the owners of the pages, for a Renderer; only while tracking is on."""
        ...

    def update(self) -> None:
        """Bring the table up to date before it is read, where events don't."""
        ...

    def standing_still(self) -> AbstractContextManager[None]:
        """Let nothing change meanwhile, where that is possible. OSError EBUSY: not now."""
        ...

    def snapshot(self, max_bytes: int, /) -> RecordTable:
        """Copy the table. OSError ENOSPC: too large."""
        ...

    @property
    def vocabulary(self) -> Vocabulary:
        """Names of the numbers in records; only while tracking is on."""
        ...

    def stack_text(self, handle: int, /, *, source_lines: bool = False) -> bytes:
        """Lines of a stack; with file and line, where they are known. ValueError: no such."""
        ...

    def memcg_lines(self, memcg: int, /) -> bytes:
        """What is said of the cgroup that a page is charged to; the table has the number."""
        ...

    def stack_counts(self) -> Sequence[tuple[int, int]]:
        """Handle and nr_base_pages of each stack that has allocated, the newest first."""
        ...

    def page_state(self, pfn: int, /) -> Mapping[str, Any]:
        """Tell what is known of a page beside its record: state, refcount ... ValueError: none."""
        ...

    @property
    def boot_nsec(self) -> int | None:
        """What to add to a record's times for CLOCK_BOOTTIME; None: its processes are not ours."""
        ...

    def zones(self) -> Sequence[Zone]:
        """Zones that have pages, in the order of /proc/zoneinfo."""
        ...

    def buddyinfo(self) -> Sequence[ZoneRow]:
        """Node, zone and free blocks by order; only if it does not lack free_areas."""
        ...

    def pagetypeinfo(self) -> str:
        """Text of /proc/pagetypeinfo before the mixed blocks; if it does not lack that."""
        ...

    def stats(self) -> Mapping[str, int]:
        """Counters, in the order in which they are shown."""
        ...


class MountSource(Source, Protocol):
    """A source that is mounted; a context manager that leaves nothing behind."""

    def __enter__(self) -> Self:
        """Start its threads: only now, since the daemon has forked by then."""
        ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End all of it."""
        ...

    def describe(self) -> dict[str, Any]:
        """Tell the state, as JSON can hold it: for clients that attach, and for status_rows."""
        ...


class SourceOptions(Protocol):
    """Options of any source; those of one that is made of a file have its ``path``, too."""

    @property
    def page_owner(self) -> bool:
        """Whether owners are tracked from the mount on."""
        ...


OptionsT = TypeVar("OptionsT", bound=SourceOptions)


def _nothing() -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class SourceKind(Generic[OptionsT]):
    """All that commands and the daemon know of one kind of source."""

    name: str
    """The first word of a mount."""
    help: str
    """What it is, for ``--help``: a few words."""
    takes_file: bool = False
    """It is made of a file, which is named behind a colon: ``dump:page_owner.txt``."""
    options_type: Callable[..., OptionsT]
    """Makes its options; each has a default, but for ``path`` of one that takes a file."""
    options: Sequence[Option]
    """How a user writes them."""
    check: Callable[[], None] = _nothing
    """Looks at the machine before anything is made. MountError: what is missing, what to do."""
    make: Callable[[OptionsT, Progress], MountSource]
    """Makes it. PageOwnerError: it can't be made."""
    status_rows: Callable[[Mapping[str, Any]], Iterable[Row]]
    """Makes lines of status of what describe() has said. LookupError, TypeError: it is not so."""
    diagnose: Callable[[], Sequence[Check]] = tuple
    """Checks of ``pageownerfs doctor``."""
    clean_up: Callable[[], None] = _nothing
    """Removes what dead daemons of this user have left."""
