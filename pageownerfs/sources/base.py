"""
Protocols of a source: Source for views, MountSource for the daemon, SourceKind for commands.

A source is a folder with one SourceKind. Only sources/__init__.py names it.
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


class StackText(Protocol):
    """Names the stacks of the records of one table. It stays valid after the table."""

    def __call__(self, handle: int, /, *, source_lines: bool = False) -> bytes:
        """Return the lines of a stack; with ``source_lines``, file and line where known.

        :raises ValueError: no stack has this handle
        """
        ...


class Source(Protocol):
    """What views may use of a source: tables, names, counters, and the switch."""

    @property
    def page_owner_on(self) -> bool:
        """Whether owners are tracked."""
        ...

    @property
    def changes(self) -> bool:
        """Whether the source can change; if not, views may cache what they found."""
        ...

    def lacks(self, need: Need, /) -> str | None:
        """Return why the source can't provide something now; None if it can."""
        ...

    def enable_page_owner(self) -> None:
        """Switch tracking on; no-op if it is on.

        :raises OSError: there is not enough memory
        :raises PageOwnerError: the source can't be tracked
        """
        ...

    def disable_page_owner(self) -> None:
        """Switch tracking off and free its memory; no-op if it is off.

        Tables and stack_text() of before stay valid: such a table is empty, and stack_text()
        returns the stacks of before.

        :raises OSError: EPERM: the source can't be switched off
        """
        ...

    def table(self) -> Table:
        """Return the table of records, for a Renderer; the same one while tracking stays on.

        :raises PageOwnerOffError: tracking is off
        """
        ...

    def update(self) -> None:
        """Bring the table up to date before it is read, if events alone don't keep it so."""
        ...

    def standing_still(self) -> AbstractContextManager[None]:
        """Pause the source inside a ``with`` block, if it can be paused.

        :raises OSError: EBUSY: not now
        """
        ...

    def snapshot(self, max_bytes: int, /) -> RecordTable:
        """Copy the table.

        :raises OSError: ENOSPC: the copy would need more than ``max_bytes``
        """
        ...

    @property
    def vocabulary(self) -> Vocabulary:
        """Names of the numbers in records; only while tracking is on."""
        ...

    @property
    def stack_text(self) -> StackText:
        """Return the lines of a stack of the table's records."""
        ...

    def memcg_lines(self, memcg: int, /) -> bytes:
        """Return the lines about a page's cgroup; ``memcg`` is the number in the table."""
        ...

    def stack_counts(self) -> Sequence[tuple[int, int]]:
        """Return handle and nr_base_pages of each stack that has allocated, newest first."""
        ...

    def page_state(self, pfn: int, /) -> Mapping[str, Any]:
        """Return what is known of a page besides its record, such as state and refcount.

        :raises ValueError: there is no such page
        """
        ...

    @property
    def boot_nsec(self) -> int | None:
        """Offset from a record's times to CLOCK_BOOTTIME; None if its pids are not local."""
        ...

    def zones(self) -> Sequence[Zone]:
        """Return the zones that have pages, in the order of /proc/zoneinfo."""
        ...

    def buddyinfo(self) -> Sequence[ZoneRow]:
        """Return node, zone name and free blocks by order; needs free_areas."""
        ...

    def pagetypeinfo(self) -> str:
        """Return the text of /proc/pagetypeinfo before the mixed blocks; needs pagetypeinfo."""
        ...

    def stats(self) -> Mapping[str, int]:
        """Return the counters, in the order of the file ``stats``."""
        ...


class MountSource(Source, Protocol):
    """A mounted source: a context manager that leaves nothing behind."""

    def __enter__(self) -> Self:
        """Start the source's threads; not earlier, because the daemon forks first."""
        ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the source and free its resources."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return the state as JSON values, for clients that attach and for status_rows."""
        ...


class SourceOptions(Protocol):
    """Options of a source; a source that takes a file also has ``path``."""

    @property
    def page_owner(self) -> bool:
        """Whether to track owners from the start."""
        ...


OptionsT = TypeVar("OptionsT", bound=SourceOptions)


def _nothing() -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class SourceKind(Generic[OptionsT]):
    """Everything that the commands and the daemon know about a kind of source."""

    name: str
    """First word of ``pageownerfs SOURCE MOUNTPOINT``."""
    help: str
    """A few words for ``--help``."""
    takes_file: bool = False
    """Whether a file follows the name after a colon: ``dump:page_owner.txt``."""
    options_type: Callable[..., OptionsT]
    """Makes the options from keyword arguments; all have defaults except ``path``."""
    options: Sequence[Option]
    """The options as a user writes them."""
    check: Callable[[], None] = _nothing
    """Checks the machine before mounting. MountError: what is missing, and what to do."""
    make: Callable[[OptionsT, Progress], MountSource]
    """Makes the source. PageOwnerError: it can't be made."""
    status_rows: Callable[[Mapping[str, Any]], Iterable[Row]]
    """Makes rows of status from describe()'s values. LookupError, TypeError: wrong values."""
    diagnose: Callable[[], Sequence[Check]] = tuple
    """Runs the source's checks for ``pageownerfs doctor``."""
    clean_up: Callable[[], None] = _nothing
    """Removes what this user's dead daemons have left."""
