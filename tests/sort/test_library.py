"""pageownerfs.page_owner_sort as a library: groups, their order, and the core's rules of use."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from data import SAMPLE

from pageownerfs import PageOwnerError, _native
from pageownerfs import page_owner_sort as pos
from pageownerfs.page_owner_sort import Rules, SortKey
from pageownerfs.page_owner_sort import groups as groups_module
from pageownerfs.text.input import Input

if TYPE_CHECKING:
    from pathlib import Path

LEAKY = Rules(cull=[pos.STACKTRACE, pos.NAME], sort=[SortKey(pos.PAGES, descending=True)])


def test_groups_are_made_of_records() -> None:
    """The groups of a file equal those of its single records, and contain all of them."""
    records = list(pos.read_records(str(SAMPLE)))
    for rules in (Rules(), LEAKY, Rules(sort=[SortKey(pos.ALLOC_TS)])):
        of_file = pos.group_file(str(SAMPLE), rules)
        of_records = pos.group_records(records, rules)
        text = list(pos.format_groups(of_file, rules))
        assert text == list(pos.format_groups(of_records, rules))
        assert sum(group.times for group in of_file) == len(records)
        assert sum(group.pages for group in of_file) == sum(r.nr_base_pages for r in records)


def test_group_has_fields_of_its_first_record() -> None:
    """The first record represents its group."""
    records = list(pos.read_records(str(SAMPLE)))
    for group in pos.group_records(records, LEAKY):
        alike = [
            record
            for record in records
            if (record.stacktrace, record.comm) == (group.stacktrace, group.comm)
        ]
        first = alike[0]
        assert (group.times, group.pages) == (len(alike), sum(r.nr_base_pages for r in alike))
        assert (group.order, group.mask, group.pid) == (first.order, first.mask, first.pid)
        assert (group.tgid, group.ts_nsec) == (first.tgid, first.ts_nsec)
        assert group.free_ts_nsec is None
        header = first.header.replace(b", ts %d ns" % first.ts_nsec, b", ts  ns")
        assert group.text == header + first.stacktrace


def test_order_of_groups() -> None:
    """Groups are ordered by the keys, most important first; ties keep the order of the text."""
    rules = Rules(sort=[SortKey(pos.PAGES, descending=True), SortKey(pos.NAME)])
    groups = list(pos.group_file(str(SAMPLE), rules))
    keys = [(-group.pages, group.comm, group.text) for group in groups]
    assert keys == sorted(keys)
    assert len(set(keys)) > 50


def test_modules() -> None:
    """A record's module is that of the innermost frame that has one, or else vmlinux."""
    header = b"Page allocated via order 0, mask 0xcc0(GFP_KERNEL), pid 7, tgid 6 (%b), ts 5 ns\n"
    text = b"".join(
        header % comm + b" a+0x0/0x1\n" + lines + b"\n"
        for comm, lines in (
            (b"none", b""),
            (b"[comm]", b" b+0x0/0x1\n"),
            (b"ext4", b" b+0x0/0x1 [ext4]\n c+0x0/0x1 [nfs]\n"),
            (b"python", b" b+0x0/0x1 [multiprocessing.pool]\n"),
            (b"old", b" [<ffffffff8115f4c1>] b+0x0/0x1 [nfs]\n"),
        )
    )
    rules = Rules(cull=[pos.MODULE], sort=[SortKey(pos.MODULE)])
    groups = pos.group_records(pos.parse_records(text), rules)
    assert [(group.module, group.times) for group in groups] == [
        *((b"ext4", 1), (b"multiprocessing.pool", 1), (b"nfs", 1), (b"vmlinux", 2))
    ]
    rules = Rules(modules=[b"vmlinux", b"nfs"], cull=[pos.NAME], sort=[SortKey(pos.NAME)])
    groups = pos.group_records(pos.parse_records(text), rules)
    assert [group.comm for group in groups] == [b"[comm]", b"none", b"old"]


def test_large_counts() -> None:
    """Counts have 64 bits: 2^40 pages are no problem."""
    text = (
        b"Page allocated via order 40, mask 0x0()\nPFN 0 type Movable Block 0 type Movable Flags"
    )
    (group,) = pos.group_records(pos.parse_records((text + b" 0x0()\n\n") * 3))
    assert (group.times, group.pages) == (3, 3 << 40)


def test_halves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads read a file with the same result as one, and damage has the right place."""
    dump = tmp_path / "dump"
    text = SAMPLE.read_bytes() * 5
    dump.write_bytes(text + b"garbage\n\n" + text + b"garbage\n\n" + text)
    alone = pos.group_file(str(dump))
    starts: list[int] = []
    monkeypatch.setattr(groups_module, "PARALLEL_BYTES", 0)
    monkeypatch.setattr(groups_module, "_boundary", spied(groups_module._boundary, starts))
    halved = pos.group_file(str(dump))
    if len(starts) == 0 or starts[0] == 0:
        pytest.skip("needs two processors, and /tmp on a disk")
    assert list(pos.format_groups(alone, Rules())) == list(pos.format_groups(halved, Rules()))
    assert pos.damage(alone) == pos.damage(halved)
    assert len(pos.damage(alone)) == 2
    numbers = ("nr_records", "nr_damaged", "nr_seen", "nr_bytes", "fields")
    assert [getattr(alone, n) for n in numbers] == [getattr(halved, n) for n in numbers]


def test_file_that_is_half_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that somebody has begun to read is continued from there, as with ``-``."""
    monkeypatch.setattr(groups_module, "PARALLEL_BYTES", 0)
    text = SAMPLE.read_bytes()
    dump = tmp_path / "dump"
    dump.write_bytes(text * 5)
    with dump.open("rb") as file:
        file.seek(len(text))
        groups = groups_module.group_input(Input("half", file.fileno()), Rules())
    assert groups.nr_bytes == 4 * len(text)
    assert groups.nr_records == 4 * len(list(pos.parse_records(text)))


STABLE = """
import sys
from pageownerfs.text.input import open_input
for path in sys.argv[1:]:
    with open_input(path) as source:
        print(source.is_stable)
"""


@pytest.mark.require("unshare")
def test_which_files_may_be_read_in_halves(tmp_path: Path) -> None:
    """
    Files on a disk may be read in halves, even if mountinfo lacks their device; /proc's not.

    mountinfo lacks it in a chroot and for a subvolume of btrfs; here there is no /proc at all.
    """
    dump = tmp_path / "dump"
    dump.write_bytes(SAMPLE.read_bytes())
    line = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
    done = subprocess.run(
        [*line, sys.executable, "-c", STABLE, dump], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True"]
    done = subprocess.run(
        [sys.executable, "-c", STABLE, dump, "/proc/version", "/sys/kernel/uevent_seqnum"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["True", "False", "False"]


def spied(function: object, results: list[int]) -> object:
    """Wrap a function and note what it returns."""

    def wrapper(*args: object) -> int:
        result: int = function(*args)  # type: ignore[operator]
        results.append(result)
        return result

    return wrapper


def test_what_the_input_lacks() -> None:
    """Rules that need data that no record has are an error; one record with the data is enough."""
    old = b"Page allocated via order 0, mask 0xcc0(GFP_KERNEL)\n a+0x0/0x1\n\n"
    new = old.replace(b")\n", b"), pid 7, tgid 6 (x), ts 5 ns, free_ts 9 ns\n")
    for rules in (
        *(Rules(pids=[7]), Rules(tgids=[6]), Rules(names=[b"x"]), Rules(unreleased=True)),
        *(Rules(cull=[pos.FREE]), Rules(sort=[SortKey(pos.ALLOC_TS)])),
    ):
        with pytest.raises(PageOwnerError, match="is not possible: the records have no "):
            pos.group_records(pos.parse_records(old), rules)
        pos.group_records(pos.parse_records(old + new), rules)
        pos.group_records([], rules)
    assert len(pos.group_records(pos.parse_records(old + new), Rules(pids=[7]))) == 1


# ---- the core's rules ----


@pytest.mark.parametrize("key", [0, 1 << _native.FIELD_TS, 1 << _native.FIELD_TIMES, 1 << 31])
def test_no_group_without_key(key: int) -> None:
    """Groups need a key."""
    with pytest.raises(ValueError, match="not a key for groups"):
        _native.Groups(key)


@pytest.mark.parametrize(
    "arguments",
    [
        {"pids": ["7"]},
        {"pids": [1 << 31]},
        {"tgids": [1 << 99]},
        {"comms": ["text"]},
        {"modules": [7]},
        {"pids": 7},
        {"comms": 7},
    ],
)
def test_filters_have_types(arguments: dict[str, object]) -> None:
    """A filter of the wrong type is refused."""
    with pytest.raises((TypeError, OverflowError)):
        _native.Groups(1, **arguments)  # type: ignore[arg-type]


def test_misuse() -> None:
    """Invalid indexes, fields and merges are refused."""
    groups = pos.group_file(str(SAMPLE))
    for index in (len(groups), -len(groups) - 1):
        with pytest.raises(IndexError):
            groups[index]
    assert groups[-1].times == groups[len(groups) - 1].times
    for keys in ([(99, False)], [(-1, False)], [(_native.FIELD_TIMES, False)] * 99):
        with pytest.raises(ValueError, match="not a field to sort by"):
            groups.sort(keys)
    with pytest.raises(TypeError):
        groups.sort([7])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="same key"):
        groups.merge(groups)
    with pytest.raises(ValueError, match="same key"):
        groups.merge(pos.group_file(str(SAMPLE), LEAKY))
    with pytest.raises(ValueError, match="offset"):
        _native.parse_page_owner(b"", 1, True, False)


def test_merged_away() -> None:
    """Groups that were merged into others say so."""
    groups, others = pos.group_file(str(SAMPLE)), pos.group_file(str(SAMPLE))
    group, times = others[0], groups[0].times
    groups.merge(others)
    assert len(others) == 0
    with pytest.raises(RuntimeError, match="merged into others"):
        _ = group.times
    groups.sort([(_native.FIELD_TIMES, True)])
    assert groups[0].times == 2 * times


def test_one_at_a_time() -> None:
    """While one thread reads, another gets an error instead of torn groups."""
    groups = pos.new_groups(Rules())
    text = SAMPLE.read_bytes() * 300
    errors = []
    thread = threading.Thread(target=groups.feed, args=(text,), kwargs={"final": True})
    thread.start()
    while thread.is_alive():
        try:
            groups.feed(b"")
        except RuntimeError as error:
            errors.append(str(error))
    thread.join()
    assert set(errors) <= {"another thread is using these groups"}
    assert groups.nr_records == 300 * len(list(pos.read_records(str(SAMPLE))))
