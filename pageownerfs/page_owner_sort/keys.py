"""
Rules for selecting, grouping and sorting records.

Keys have the names that get_arg_type() of tools/mm/page_owner_sort.c knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from pageownerfs import _native

if TYPE_CHECKING:
    from collections.abc import Sequence


class Key(NamedTuple):
    """A property of records to group or sort by."""

    name: str
    """Name in ``--cull`` and ``--sort``."""
    short: str
    """Short name in ``--cull`` and ``--sort``."""
    field: int
    """``FIELD_*`` of the C core."""
    needs: int = 0
    """``HAS_*`` bit of the C core: the field that the text must have; some kernels lack it."""
    culls: bool = True
    """Whether ``--cull`` accepts it."""
    sorts: bool = True
    """Whether ``--sort`` accepts it."""


PID: Final = Key("pid", "p", _native.FIELD_PID, _native.HAS_PID)
TGID: Final = Key("tgid", "tg", _native.FIELD_TGID, _native.HAS_TGID)
NAME: Final = Key("name", "n", _native.FIELD_COMM, _native.HAS_TGID)
STACKTRACE: Final = Key("stacktrace", "st", _native.FIELD_STACKTRACE)
ALLOCATOR: Final = Key("allocator", "ator", _native.FIELD_ALLOCATOR)
MODULE: Final = Key("module", "mod", _native.FIELD_MODULE)
TXT: Final = Key("txt", "T", _native.FIELD_TXT, culls=False)
ALLOC_TS: Final = Key("alloc_ts", "at", _native.FIELD_TS, _native.HAS_TS, culls=False)
FREE_TS: Final = Key("free_ts", "ft", _native.FIELD_FREE_TS, _native.HAS_FREE_TS, culls=False)
FREE: Final = Key("free", "f", _native.FIELD_FREE, _native.HAS_FREE_TS, sorts=False)
TIMES: Final = Key("times", "", _native.FIELD_TIMES, culls=False, sorts=False)
"""Number of records in a group; only the option ``-t`` uses it."""
PAGES: Final = Key("pages", "", _native.FIELD_PAGES, culls=False, sorts=False)
"""Number of base pages in a group; only the option ``-m`` uses it."""

KEYS: Final = (
    *(PID, TGID, NAME, STACKTRACE, ALLOCATOR, MODULE),
    *(TXT, ALLOC_TS, FREE_TS, FREE),
)
"""Keys that ``--cull`` and ``--sort`` know by name."""


class SortKey(NamedTuple):
    """A key to sort groups by."""

    key: Key
    descending: bool = False


class Rules(NamedTuple):
    """Which records to select, how to group them, and how to sort the groups."""

    pids: Sequence[int] | None = None
    """Select records of these threads; None selects all."""
    tgids: Sequence[int] | None = None
    """Select records of these processes; None selects all."""
    names: Sequence[bytes] | None = None
    """Select records whose complete comm is one of these; None selects all."""
    modules: Sequence[bytes] | None = None
    """Select records whose innermost module is one of these; ``vmlinux``: without a module."""
    unreleased: bool = False
    """Leave out records that were freed after their allocation; needs free_ts."""
    cull: Sequence[Key] = ()
    """Keys that the records of a group share; if empty, their text except PFN and ts."""
    sort: Sequence[SortKey] = (SortKey(TIMES, descending=True),)
    """Sort keys, the most important first. Equal groups are in the order of cull, or of text."""

    @property
    def keeps_ts(self) -> bool:
        """
        Whether the text that groups share includes ts, so that hardly any records are equal.

        It does if the first sort key is a time, because a group itself has none.
        """
        return bool(self.sort) and self.sort[0].key in {ALLOC_TS, FREE_TS}

    @property
    def ties_reversed(self) -> bool:
        """
        Whether equal groups are in reverse order.

        Linux 6.1 compares free_ts in a way that never says "equal", which has this effect.
        """
        return list(self.sort) == [SortKey(FREE_TS)]

    @property
    def group_key(self) -> int:
        """The C core's bits for the fields that the records of a group share."""
        fields = [key.field for key in self.cull] or [TXT.field]
        if not self.cull and self.keeps_ts:
            fields.append(ALLOC_TS.field)
        return sum(1 << field for field in set(fields))

    def needs(self) -> list[tuple[str, int]]:
        """Return each operation, and the field that it needs: ``HAS_*`` of the C core, or 0."""
        filters = (
            ("selecting by pid", self.pids, _native.HAS_PID),
            ("selecting by tgid", self.tgids, _native.HAS_TGID),
            ("selecting by name", self.names, _native.HAS_TGID),
            ("filtering out freed blocks", self.unreleased or None, _native.HAS_FREE_TS),
        )
        return [
            *((what, needs) for what, values, needs in filters if values is not None),
            *((f"culling by {key.name}", key.needs) for key in self.cull),
            *((f"sorting by {item.key.name}", item.key.needs) for item in self.sort),
        ]


def find_key(name: str) -> Key | None:
    """Return the key with this name or short name; None if there is none."""
    return next((key for key in KEYS if name in {key.name, key.short}), None)
