"""
What one reader of page_owner wants to see: the commands of its per-open filters.

Mirrors the write() of tools/mm/page_owner_filter.c's file (after 6.19): words with blanks between
them, ``mode=stack|handle|stack_handle``, ``nid=LIST``, ``pid=LIST``, ``tgid=LIST``; all of them or
none take effect, and what is not named stays. A page is shown if its node is one of nid, and its
thread one of pid or its process one of tgid.
"""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from pageownerfs.mm.page_ext import PID_MAX_LIMIT

from .view import ViewError

if TYPE_CHECKING:
    from collections.abc import Collection

MODES: Final = ("stack", "handle", "stack_handle")
"""Print modes, by number."""

_MAX_BYTES: Final = 4095
_MAX_PIDS: Final = 16
_MAX_NUMNODES: Final = 1024
_RANGE: Final = re.compile(r"([0-9]+)(?:-([0-9]+))?")


class Filter(NamedTuple):
    """What is shown, and how."""

    mode: int = 0
    """Index into MODES."""
    nids: frozenset[int] | None = None
    """Nodes; None: all."""
    pids: tuple[int, ...] = ()
    """Threads."""
    tgids: tuple[int, ...] = ()
    """Processes; without pids and tgids all are shown."""


def parse_filter(text: bytes, old: Filter, nodes: Collection[int]) -> Filter:
    """
    Take what was written.

    :param text: of one write()
    :param old: what was shown before
    :param nodes: that have memory
    :raises ViewError: EINVAL, E2BIG, ERANGE; nothing changes then
    """
    if len(text) > _MAX_BYTES:
        raise ViewError(errno.EINVAL)
    new = old
    for token in re.split(r"[ \t\n]+", text.decode("latin-1").rstrip("\0")):
        if not token:
            continue
        name, equals, value = token.partition("=")
        if not equals:
            raise ViewError(errno.EINVAL)
        match name:
            case "mode" if value in MODES:
                new = new._replace(mode=MODES.index(value))
            case "nid":
                new = new._replace(nids=_parse_nodes(value, nodes))
            case "pid":
                new = new._replace(pids=_parse_pids(value))
            case "tgid":
                new = new._replace(tgids=_parse_pids(value))
            case _:
                raise ViewError(errno.EINVAL)
    return new


def _parse_nodes(text: str, nodes: Collection[int]) -> frozenset[int]:
    # As nodelist_parse(): 0,2-4,7; empty items are skipped.
    nids: set[int] = set()
    for item in filter(None, text.split(",")):
        found = _RANGE.fullmatch(item)
        if found is None:
            raise ViewError(errno.EINVAL)
        first, last = int(found[1]), int(found[2] or found[1])
        if last >= _MAX_NUMNODES:
            raise ViewError(errno.ERANGE)
        if first > last:
            raise ViewError(errno.EINVAL)
        nids.update(range(first, last + 1))
    if not nids or not nids <= set(nodes):
        raise ViewError(errno.EINVAL)
    return frozenset(nids)


def _parse_pids(text: str) -> tuple[int, ...]:
    items = [item for item in text.split(",") if item]
    if not all(re.fullmatch("[0-9]{1,9}", item) for item in items):
        raise ViewError(errno.EINVAL)
    pids = tuple(map(int, items))
    if len(pids) > _MAX_PIDS:
        raise ViewError(errno.E2BIG)
    if any(pid > PID_MAX_LIMIT for pid in pids):
        raise ViewError(errno.EINVAL)
    return pids
