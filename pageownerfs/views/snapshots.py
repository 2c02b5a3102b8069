"""
``snapshots/``: mkdir takes a snapshot of the records, rmdir removes it.

A snapshot directory contains the same files, frozen at that moment, and ``diff``: the stacks that
have grown or shrunk since.
"""

from __future__ import annotations

import errno
import logging
import threading
from typing import TYPE_CHECKING, Final

from pageownerfs.errors import PageOwnerOffError
from pageownerfs.mm.kstrtox import format_size

from .frozen import FrozenSource
from .text import TextView
from .tree import Tree
from .view import Directory, ViewError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pageownerfs.sources.base import Source

    from .view import Node

_NAME_MAX: Final = 255
_log = logging.getLogger(__name__)


class SnapshotsDirectory(Directory):
    """The directory ``snapshots``; mode 0700."""

    mode = 0o700

    def __init__(
        self, source: Source, make_nodes: Callable[[Source], dict[str, Node]], max_bytes: int
    ) -> None:
        """
        Take snapshots of ``source``.

        :param make_nodes: makes the files of a snapshot
        :param max_bytes: limit of the memory for all snapshots; mkdir fails with ENOSPC beyond it
        """
        self._source = source
        self._make_nodes = make_nodes
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._snapshots: dict[str, tuple[Tree, int]] = {}

    def absent(self) -> str | None:
        """Return why the directory is absent: tracking is off, and there are no snapshots."""
        return None if self._snapshots else self._source.lacks("owners")

    def names(self) -> Iterable[str]:
        """List the snapshots."""
        return list(self._snapshots)

    def lookup(self, name: str) -> Node | None:
        """Find a snapshot."""
        found = self._snapshots.get(name)
        return found[0] if found else None

    def mkdir(self, name: str) -> None:
        """Take a snapshot.

        :raises ViewError: EEXIST, ENAMETOOLONG, ENOSPC, EBUSY or ENOMEM; EOPNOTSUPP: tracking is
            off
        """
        if len(name) > _NAME_MAX:
            raise ViewError(errno.ENAMETOOLONG)
        with self._lock:
            if name in self._snapshots:
                raise ViewError(errno.EEXIST)
            if self._source.lacks("owners"):
                raise ViewError(errno.EOPNOTSUPP)
            self._source.update()
            room = self._max_bytes - sum(nr_bytes for _, nr_bytes in self._snapshots.values())
            frozen = self._take(name, max(room, 0))
            nodes = self._make_nodes(frozen)
            live = self._source
            nodes["diff"] = _DiffView(frozen, live)
            self._snapshots[name] = (Tree(nodes), frozen.nr_bytes)

    def _take(self, name: str, room: int) -> FrozenSource:
        try:
            return FrozenSource(self._source, room)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                _log.warning(
                    "snapshots/%s: the snapshot needs more than the %s left of %s; "
                    "rmdir another snapshot, or mount with a larger -o snapshots=",
                    *(name, format_size(room), format_size(self._max_bytes)),
                )
            raise ViewError(error.errno or errno.EIO) from error
        except MemoryError as error:
            raise ViewError(errno.ENOMEM) from error

    def rmdir(self, name: str) -> None:
        """Remove a snapshot; its open files stay readable.

        :raises ViewError: ENOENT: there is no such snapshot
        """
        with self._lock:
            if self._snapshots.pop(name, None) is None:
                raise ViewError(errno.ENOENT)


def _comparable(then: Source, now: Source) -> bool:
    # Handles are only the same stacks if tracking was not switched off meanwhile.
    return then.stack_text == now.stack_text


class _DiffView(TextView):
    # The file diff, which is absent once its snapshot can't be compared.

    def __init__(self, then: FrozenSource, now: Source) -> None:
        super().__init__(now, lambda: diff(then, now), "owners")
        self._then, self._now = then, now

    def absent(self) -> str | None:
        reason = super().absent()
        if reason is None and not _comparable(self._then, self._now):
            return "tracking was switched off after the snapshot"
        return reason


def diff(then: Source, now: Source) -> bytes:
    """
    Format the change of each stack's number of pages, largest growth first.

    Early pages count, because it matters when some of them are freed.

    :raises PageOwnerOffError: tracking was switched off since then
    """
    now.update()
    before = {handle: pages for handle, pages, _ in then.table().count_stacks(early=True)}
    after = {handle: pages for handle, pages, _ in now.table().count_stacks(early=True)}
    if not _comparable(then, now):
        raise PageOwnerOffError("tracking was switched off after the snapshot")
    deltas = {handle: after.get(handle, 0) - before.get(handle, 0) for handle in before | after}
    changed = sorted((-delta, handle) for handle, delta in deltas.items() if delta)
    return b"".join(
        b"%d pages now, %d pages then, delta %+d:\n%b\n"
        % (
            after.get(handle, 0),
            before.get(handle, 0),
            -negative,
            _stack(then, handle),
        )
        for negative, handle in changed
    )


def _stack(source: Source, handle: int) -> bytes:
    try:
        return source.stack_text(handle)
    except ValueError as error:
        return b" (%s)\n" % str(error).encode()
