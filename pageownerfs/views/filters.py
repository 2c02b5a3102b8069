"""
Filters of page_owner: parse the commands that are written to an open file.

Mirrors the write() of the file that tools/mm/page_owner_filter.c uses (after 6.19). Words are
separated by blanks: ``mode=stack|handle|stack_handle``, ``nid=LIST``, ``pid=LIST``, ``tgid=LIST``.
A write takes effect completely or not at all; filters that it does not name stay. A page is shown
if its node is in nid, and its thread is in pid or its process in tgid.
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
    """Which pages an open file shows, and how."""

    mode: int = 0
    """Index into MODES."""
    nids: frozenset[int] | None = None
    """Nodes to show; None for all."""
    pids: tuple[int, ...] = ()
    """Threads to show."""
    tgids: tuple[int, ...] = ()
    """Processes to show; if pids and tgids are empty, all are shown."""


def parse_filter(text: bytes, old: Filter, nodes: Collection[int]) -> Filter:
    """
    Parse the text of a write().

    :param text: data of one write()
    :param old: the filter before the write
    :param nodes: nodes that have memory
    :return: the filter after the write
    :raises ViewError: EINVAL, E2BIG or ERANGE: the text is wrong
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
