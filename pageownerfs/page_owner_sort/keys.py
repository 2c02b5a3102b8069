"""
What records are grouped and sorted by, and which records count.

Keys have the names of tools/mm/page_owner_sort.c: get_arg_type() there is KEYS here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from pageownerfs import _native

if TYPE_CHECKING:
    from collections.abc import Sequence


class Key(NamedTuple):
    """Something that a record has."""

    name: str
    """As in ``--cull`` and ``--sort``."""
    short: str
    field: int
    """``FIELD_*`` of the core."""
    needs: int = 0
    """``HAS_*`` bits of the core: what the text must tell for it; not every kernel's does."""
    culls: bool = True
    """May it stand in ``--cull``?"""
    sorts: bool = True
    """May it stand in ``--sort``?"""


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
"""Number of records of a group; only as the option ``-t``."""
PAGES: Final = Key("pages", "", _native.FIELD_PAGES, culls=False, sorts=False)
"""Base pages of a group, nr_base_pages; only as the option ``-m``."""

KEYS: Final = (
    *(PID, TGID, NAME, STACKTRACE, ALLOCATOR, MODULE),
    *(TXT, ALLOC_TS, FREE_TS, FREE),
)
"""What ``--cull`` and ``--sort`` know by name."""


class SortKey(NamedTuple):
    """A key to sort groups by."""

    key: Key
    descending: bool = False


class Rules(NamedTuple):
    """Which records count, what makes a group of them, and in which order groups come."""

    pids: Sequence[int] | None = None
    """Only records of these threads; None: of all."""
    tgids: Sequence[int] | None = None
    """Only records of these processes."""
    names: Sequence[bytes] | None = None
    """Only records whose comm is one of these, whole."""
    modules: Sequence[bytes] | None = None
    """Only records whose innermost module is one of these; ``vmlinux`` for those without."""
    unreleased: bool = False
    """Not those that were freed after they were allocated; needs free_ts."""
    cull: Sequence[Key] = ()
    """What the records of a group have in common; nothing: their whole text but PFN and ts."""
    sort: Sequence[SortKey] = (SortKey(TIMES, descending=True),)
    """Most important key first. Groups that are equal come in the order of cull, or of text."""

    @property
    def keeps_ts(self) -> bool:
        """
        Tell whether ts stays part of the text, so that hardly any records are alike.

        It does when groups are sorted by a time first: a group has none of its own.
        """
        return bool(self.sort) and self.sort[0].key in {ALLOC_TS, FREE_TS}

    @property
    def ties_reversed(self) -> bool:
        """
        Tell whether groups that are equal come in the reverse order.

        The comparison by free_ts of Linux 6.1 never says "equal", which has that effect.
        """
        return list(self.sort) == [SortKey(FREE_TS)]

    @property
    def group_key(self) -> int:
        """The bits that the core takes for what makes a group."""
        fields = [key.field for key in self.cull] or [TXT.field]
        if not self.cull and self.keeps_ts:
            fields.append(ALLOC_TS.field)
        return sum(1 << field for field in set(fields))

    def needs(self) -> list[tuple[str, int]]:
        """Return what needs the text to tell something, and what: ``HAS_*`` of the core."""
        filters = (
            ("selecting by pid", self.pids, _native.HAS_PID),
            ("selecting by tgid", self.tgids, _native.HAS_TGID),
            ("selecting by name", self.names, _native.HAS_TGID),
            ("leaving out what was freed", self.unreleased or None, _native.HAS_FREE_TS),
        )
        return [
            *((what, needs) for what, values, needs in filters if values is not None),
            *((f"culling by {key.name}", key.needs) for key in self.cull),
            *((f"sorting by {item.key.name}", item.key.needs) for item in self.sort),
        ]


def find_key(name: str) -> Key | None:
    """Find a key by its name or its short one; None if there is no such key."""
    return next((key for key in KEYS if name in {key.name, key.short}), None)
