"""Group the records of a text and sort the groups, with the C core."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final

from pageownerfs import _native
from pageownerfs._native import Group, Groups
from pageownerfs.errors import PageOwnerError
from pageownerfs.text.input import Input, Window, open_input
from pageownerfs.text.progress import no_progress
from pageownerfs.text.record import Damage

from .keys import Rules

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Buffer

    from pageownerfs.text.progress import Progress
    from pageownerfs.text.record import Record

__all__ = ["Group", "Groups", "group_file", "group_input", "group_records", "group_text"]

PARALLEL_BYTES: Final = 8 << 20
"""Files of at least this size are read by two threads."""
_BOUNDARY: Final = b"\n\nPage allocated via order "
_BOUNDARY_BYTES: Final = 1 << 20
_POLL_SECONDS: Final = 0.05
_HAS_NAMES: Final = {
    _native.HAS_PID: "pid",
    _native.HAS_TGID: "tgid and comm",
    _native.HAS_TS: "ts",
    _native.HAS_FREE_TS: "free_ts",
}


def group_file(path: str, rules: Rules = Rules()) -> Groups:  # noqa: B008 - immutable
    """
    Group the records of a text.

    :param path: a file, plain or compressed (gzip, xz, zstd), a pipe, or a file of the mount;
        ``-`` is standard input
    :param rules: which records to select, and how to group and sort them
    :return: the sorted groups; damage(groups) lists what was skipped
    :raises PageOwnerError: the text can't be read, has no record, or lacks a field that the rules
        need
    """
    with open_input(path) as text:
        return group_input(text, rules)


def group_records(records: Iterable[Record], rules: Rules = Rules()) -> Groups:  # noqa: B008
    """
    Group single records as group_file() groups those of a text.

    :param records: records of any texts; the first record of a group represents it
    :param rules: which records to select, and how to group and sort them
    :return: the sorted groups
    """
    groups = new_groups(rules)
    for record in records:
        groups.feed(record.text, final=True)
    return _finished(groups, rules, "the records")


def group_text(parts: Iterable[Buffer], rules: Rules, name: str) -> Groups:
    """
    Group the records of a text that arrives in parts, as group_file() does.

    :param parts: the parts in order; a record may span several
    :param rules: which records to select, and how to group and sort them
    :param name: name of the text, for messages
    :return: the sorted groups
    :raises PageOwnerError: the text has no record, or lacks a field that the rules need
    """
    groups, rest = new_groups(rules), b""
    for part in parts:
        with memoryview(b"".join((rest, part)) if rest else part) as text:
            rest = bytes(text[groups.feed(text) :])
    groups.feed(rest, final=True)
    return _finished(groups, rules, name)


def group_input(source: Input, rules: Rules, progress: Progress = no_progress) -> Groups:
    """Group the records of an open text, as group_file() does."""
    groups = new_groups(rules)
    source.place = lambda: f"after record {groups.nr_seen}: "
    boundary = _boundary(source, rules)
    if boundary:
        _scan_halves(source, boundary, groups, rules, progress)
    else:
        _scan(source, groups, progress)
    return _finished(groups, rules, source.name)


def damage(groups: Groups) -> list[Damage]:
    """Return up to 64 of the damaged records, the first ones; groups.nr_damaged counts all."""
    return [Damage(*item) for item in groups.damage]


def new_groups(rules: Rules) -> Groups:
    """Make empty groups, which feed() fills from text."""
    return Groups(
        rules.group_key,
        pids=rules.pids,
        tgids=rules.tgids,
        comms=rules.names,
        modules=rules.modules,
        unreleased=rules.unreleased,
    )


def _finished(groups: Groups, rules: Rules, name: str) -> Groups:
    """Check that there were records, with the fields that the rules need; sort the groups."""
    nr_whole = groups.nr_seen - groups.nr_damaged
    if groups.nr_damaged and not nr_whole:
        first = damage(groups)[0]
        raise PageOwnerError(f"{name}: no page_owner record found; {first}")
    for what, needs in rules.needs():
        if needs and nr_whole and not groups.fields & needs:
            raise PageOwnerError(
                f"{name}: {what} is not possible: the records have no {_HAS_NAMES[needs]}"
            )
    sort: dict[int, bool] = {}
    for item in rules.sort:  # of equal keys, the first counts
        sort.setdefault(item.key.field, item.descending)
    groups.sort(sort.items(), ties_reversed=rules.ties_reversed)
    return groups


def _scan(source: Input, groups: Groups, progress: Progress) -> None:
    """Read the text from start to end."""
    window = Window()
    while nr_bytes := source.readinto(window.room):
        if window.add(nr_bytes):
            window.drop(groups.feed(window.text))
            progress(source.nr_bytes, source.total_bytes, groups.nr_records)
    groups.feed(window.text, final=True)
    progress(source.nr_bytes, source.total_bytes, groups.nr_records)


# ---- a large file, by two threads ----


def _boundary(source: Input, rules: Rules) -> int:
    """Return an offset near the middle where a record begins; 0 to not read in halves."""
    size = source.stat.st_size
    # If every record is its own group, merging the halves costs more than it saves.
    few_groups = rules.cull or not rules.keeps_ts
    if size < PARALLEL_BYTES or not (few_groups and source.is_stable):
        return 0
    if len(os.sched_getaffinity(0)) < 2:
        return 0
    with source.errors():
        text = os.pread(source.fd, _BOUNDARY_BYTES, size // 2)
    found = text.find(_BOUNDARY)
    return size // 2 + found + 2 if found >= 0 else 0


class _Half:
    """One half of a file, and the groups of its records."""

    def __init__(self, source: Input, groups: Groups, start: int, end: int | None) -> None:
        self.groups = groups
        self.position = start
        self._start = start
        self._end = end
        self._source = source
        self._window = Window()

    @property
    def nr_bytes(self) -> int:
        """Bytes read so far."""
        return self.position - self._start

    def step(self) -> bool:
        """Read the next part; return whether there was one."""
        room = self._window.room
        if self._end is not None:
            room = room[: self._end - self.position]
        with self._source.errors():
            nr_bytes = os.preadv(self._source.fd, [room], self.position) if room else 0
        self.position += nr_bytes
        if self._window.add(nr_bytes) or not nr_bytes:
            self._window.drop(self.groups.feed(self._window.text, final=not nr_bytes))
        return nr_bytes > 0


class _Worker(threading.Thread):
    """A thread that reads the second half; it ends early when stopped, or on an error."""

    def __init__(self, half: _Half) -> None:
        super().__init__(name="page_owner_sort", daemon=True)
        self._half = half
        self.stop = False
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.stop and self._half.step():
                pass
        except BaseException as error:  # noqa: BLE001 - raised again by the waiting thread
            self.error = error


def _scan_halves(
    source: Input, boundary: int, groups: Groups, rules: Rules, progress: Progress
) -> None:
    """Read both halves of a file at the same time."""
    first = _Half(source, groups, 0, boundary)
    second = _Half(source, new_groups(rules), boundary, None)
    worker = _Worker(second)
    worker.start()
    try:
        more = True
        while more or worker.is_alive():
            if more:
                more = first.step()
            else:
                worker.join(_POLL_SECONDS)
            progress(
                first.nr_bytes + second.nr_bytes,
                source.total_bytes,
                groups.nr_records + second.groups.nr_records,
            )
    finally:
        worker.stop = True
        worker.join()
    if worker.error:
        raise worker.error
    groups.merge(second.groups)
