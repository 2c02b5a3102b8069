"""snapshots/: frozen copies of the records, their files, and what has grown since."""

from __future__ import annotations

import errno
import os
import random
import re
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest
from data import SAMPLE
from mounts import mounted, status_of
from views import (
    client,
    parse_show_stacks,
    read_filtered,
    read_shown,
    read_stats,
    said,
    stack_sums,
    tree_files,
)

from pageownerfs import GFP_HIGHUSER_MOVABLE, GFP_KERNEL, Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.require("fuse", "shm"), pytest.mark.slow]

CHANGED = re.compile(
    rb"(\d+) pages now, (\d+) pages then, delta ([+-]\d+):\n((?: [^\n]+\n)*)\n", re.MULTILINE
)
SHOW_STACKS = "page_owner_stacks/show_stacks"
NR_WORKERS = 3
NR_SNAPSHOTS = 25

# On command, leaks with one function and drops with another.
LEAK = r"""
import sys
from pageownerfs import Pool

def takes_for_a_while(pool, pages):
    for _ in range(10):
        pages.append(pool.alloc_pages(3))

def leaks_without_end(pool, pages):
    for _ in range(30):
        pages.append(pool.alloc_pages(2, 0x100cca))

def leaks_a_little(pool, pages):
    for _ in range(3):
        pages.append(pool.alloc_pages())

with Pool.attach(sys.argv[1]) as pool:
    taken, kept = [], []
    takes_for_a_while(pool, taken)
    print(1, flush=True)
    sys.stdin.readline()
    leaks_a_little(pool, kept)
    leaks_without_end(pool, kept)
    for page in taken[:6]:
        pool.free_pages(page)
    print(1, flush=True)
    sys.stdin.read()
"""

# Frees a block and takes the next, of all orders, forever; blocks are split and merged.
STORM = r"""
import random, sys
from pageownerfs import Pool

def takes_a_pair(pool, order):
    return [pool.alloc_pages(order), pool.alloc_pages(order)]

def takes_another(pool, order):
    return [pool.alloc_pages(order, 0x100cca), pool.alloc_pages(order, 0x100cca)]

with Pool.attach(sys.argv[1]) as pool:
    chance, pairs = random.Random(int(sys.argv[2])), []
    print(1, flush=True)
    while True:
        take, order = chance.choice((takes_a_pair, takes_another)), chance.choice((0, 0, 1, 2, 4))
        pairs.append(take(pool, order))
        if len(pairs) > 40:
            for page in pairs.pop(chance.randrange(len(pairs))):
                pool.free_pages(page)
"""


class Change(NamedTuple):
    """One stack of a diff."""

    now: int
    then: int
    delta: int
    stack: bytes

    @property
    def function(self) -> str:
        """Return the innermost function."""
        return self.stack.partition(b"+")[0].decode().strip()


def parse_diff(text: bytes) -> list[Change]:
    """Parse a diff; fail on anything else in it."""
    changes, end = [], 0
    while end < len(text):
        found = CHANGED.match(text, end)
        assert found, text[end : end + 300]
        changes.append(Change(int(found[1]), int(found[2]), int(found[3]), found[4]))
        end = found.end()
    return changes


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    """Mount a pool with a few pages and no active client."""
    with mounted("pool", "size=64M", "page_owner=on") as mnt:
        with Pool.attach(mnt) as pool:
            for order in (0, 1, 2, 3) * 20:
                pool.alloc_pages(order, GFP_KERNEL)
        yield mnt


@pytest.fixture
def take(path: Path) -> Iterator[Callable[[str], Path]]:
    """Return a function that takes snapshots, which are dropped at the end."""
    names: list[Path] = []

    def take_one(name: str) -> Path:
        names.append(path / "snapshots" / name)
        names[-1].mkdir()
        return names[-1]

    yield take_one
    for name in names:
        if name.exists():
            name.rmdir()


def expect_errno(number: int, attempt: Callable[[], object]) -> None:
    """Fail unless the attempt fails with this errno."""
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is checked below
        attempt()
    assert caught.value.errno == number, caught.value


# ---- contents ----


@pytest.mark.slow
def test_all_files(path: Path, take: Callable[[str], Path]) -> None:
    """A snapshot contains the files of the mount, as they were then, and diff."""
    live = tree_files(path)
    snapshot = take("one")
    assert (path / "snapshots").stat().st_mode & 0o7777 == 0o700
    here = tree_files(snapshot)
    only_live = {"page_owner_on"}
    assert here.keys() - {"diff"} == live.keys() - only_live
    for name in here:
        data = here[name].read_bytes()
        if name in ("diff", "stats"):
            continue
        if name.startswith("pages/"):
            assert data.partition(b"\n")[0].startswith(b"page: pfn:0x")
            continue
        assert data == live[name].read_bytes(), name
        # Files that are slow to make have size 0, or their length while somebody has them open.
        assert here[name].stat().st_size == len(data), name
        assert here[name].stat().st_mode == live[name].stat().st_mode, name
    assert (snapshot / "diff").read_bytes() == b""
    assert read_stats(snapshot).keys() == read_stats(path).keys()


def test_frozen(path: Path, take: Callable[[str], Path]) -> None:
    """A snapshot stays the same while the pool changes."""
    names = [n for n in tree_files(path) if not n.startswith(("pages/", "page_owner_on"))]
    snapshot = take("one")
    before = {name: (snapshot / name).read_bytes() for name in names}
    with Pool.attach(path) as pool:
        pages = [pool.alloc_pages(order, GFP_HIGHUSER_MOVABLE) for order in (0, 3, 5, 9) * 5]
        for name in ("page_owner", SHOW_STACKS, "buddyinfo", "stats", "sorted/by_memory"):
            assert (path / name).read_bytes() != before[name], name
        assert {name: (snapshot / name).read_bytes() for name in names} == before
        listed = {file.name for file in (snapshot / "pages").iterdir()}
        assert hex(pages[0].pfn) not in listed
        assert hex(pages[0].pfn) in {file.name for file in (path / "pages").iterdir()}
        for page in pages:
            pool.free_pages(page)
    assert {name: (snapshot / name).read_bytes() for name in names} == before


def test_filters_and_thresholds_are_its_own(path: Path, take: Callable[[str], Path]) -> None:
    """count_threshold of a snapshot is independent of the mount's."""
    snapshot = take("one")
    text = (path / SHOW_STACKS).read_bytes()
    (snapshot / "page_owner_stacks" / "count_threshold").write_text("1000000")
    assert (snapshot / SHOW_STACKS).read_bytes() == b""
    assert (path / SHOW_STACKS).read_bytes() == text
    handles = read_filtered(snapshot, "mode=handle")
    assert handles == read_filtered(path, "mode=handle")


def test_pages_of_a_copy(path: Path, take: Callable[[str], Path]) -> None:
    """A snapshot keeps the owner of a page freed later, and reports pages that were free then."""
    with Pool.attach(path) as pool:
        page = pool.alloc_pages(2, GFP_KERNEL)
        pfn = page.pfn
        snapshot = take("one")
        pool.free_pages(page)
    text = (snapshot / "pages" / hex(pfn + 1)).read_text()
    assert f"block: pfn:{pfn:#x} order:2" in text
    assert "tracks the page as allocated" in text
    assert "tracks the page as freed" in (path / "pages" / hex(pfn + 1)).read_text()
    with Pool.attach(path) as pool:
        free = next(
            n for n in range(pool.nr_pages) if pool.page_info(n).state == "buddy" and n != pfn
        )
    assert (
        (snapshot / "pages" / hex(free))
        .read_text()
        .endswith(" has no record: not allocated, or not recorded\n")
    )
    with pytest.raises(FileNotFoundError):
        (snapshot / "pages" / hex(1 << 40)).read_bytes()


# ---- names ----


def test_names(path: Path, take: Callable[[str], Path]) -> None:
    """A snapshot is taken and dropped by name, and any name is valid."""
    snapshots = path / "snapshots"
    assert list(snapshots.iterdir()) == []
    names = ["one", "two words", "ümlaut", "x" * 200, "page_owner", "-"]
    for name in names:
        take(name)
        expect_errno(errno.EEXIST, (snapshots / name).mkdir)
    assert {file.name for file in snapshots.iterdir()} == set(names)
    for name in names:
        assert (snapshots / name / "page_owner").read_bytes() == (path / "page_owner").read_bytes()
        (snapshots / name).rmdir()
        assert not (snapshots / name).exists()
        expect_errno(errno.ENOENT, (snapshots / name).rmdir)
    assert list(snapshots.iterdir()) == []


def test_made_again(path: Path) -> None:
    """The name of a dropped snapshot can be used again for another one."""
    snapshot = path / "snapshots" / "again"
    texts = []
    with Pool.attach(path) as pool:
        for _ in range(4):
            snapshot.mkdir()
            texts.append((snapshot / "page_owner").read_bytes())
            snapshot.rmdir()
            pool.alloc_pages(0, GFP_KERNEL)
    assert len(set(texts)) == 4


def test_other_places(path: Path, take: Callable[[str], Path]) -> None:
    """Directories can be made nowhere else, and only snapshots can be removed."""
    snapshot = take("one")
    for folder in (path, snapshot, path / "sorted", path / "page_owner_stacks", path / "extfrag"):
        expect_errno(errno.EPERM, (folder / "new").mkdir)
    expect_errno(errno.EPERM, (path / "pages" / "new").mkdir)
    expect_errno(errno.EPERM, (snapshot / "sorted" / "new").mkdir)
    for folder in (path / "sorted", path / "snapshots", snapshot / "sorted", snapshot / "pages"):
        expect_errno(errno.EPERM, folder.rmdir)
    expect_errno(errno.EPERM, (snapshot / "page_owner").unlink)
    expect_errno(errno.EPERM, lambda: snapshot.rename(path / "snapshots" / "two"))
    expect_errno(errno.EACCES, (path / "snapshots" / "file").touch)
    expect_errno(errno.ENOTDIR, (snapshot / "page_owner" / "x").mkdir)
    assert (snapshot / "page_owner").read_bytes()


def test_dropped_while_open(path: Path) -> None:
    """After a snapshot is dropped, files that were open stay readable to the end."""
    snapshot = path / "snapshots" / "one"
    snapshot.mkdir()
    names = ("page_owner", SHOW_STACKS, "sorted/by_memory", "stats", "pagetypeinfo")
    texts = {name: (snapshot / name).read_bytes() for name in names}
    opened = {name: os.open(snapshot / name, os.O_RDONLY) for name in names}
    try:
        half = {name: os.read(opened[name], 1000) for name in names}
        snapshot.rmdir()
        with Pool.attach(path) as pool:
            pool.alloc_pages(4, GFP_KERNEL)
        for name, fd in opened.items():
            rest = iter(lambda fd=fd: os.read(fd, 4096), b"")  # type: ignore[misc]
            assert half[name] + b"".join(rest) == texts[name], name
    finally:
        for fd in opened.values():
            os.close(fd)


# ---- memory ----


def test_no_room() -> None:
    """Beyond -o snapshots= a snapshot fails with ENOSPC and leaves nothing; smaller ones work."""
    with mounted("pool", "size=64M", "page_owner=on", "snapshots=64K") as path:
        snapshots = path / "snapshots"
        with Pool.attach(path) as pool:
            early = len(read_shown(path))
            pages = [pool.alloc_pages() for _ in range(600)]
            if early * 64 < 16 << 10:
                (snapshots / "one").mkdir()
                expect_errno(errno.ENOSPC, (snapshots / "two").mkdir)
                assert [file.name for file in snapshots.iterdir()] == ["one"]
                assert not (snapshots / "two").exists()
                (snapshots / "one").rmdir()
                # Its memory is available again.
                (snapshots / "two").mkdir()
                (snapshots / "two").rmdir()
            pages += [pool.alloc_pages() for _ in range(5000)]
            for _ in range(3):
                expect_errno(errno.ENOSPC, (snapshots / "one").mkdir)
                assert list(snapshots.iterdir()) == []
            # The pool continues to work.
            for page in pages:
                pool.free_pages(page)
            assert pool.check() == []
        log = status_of(path)["log"]
        assert log


def test_no_room_at_all() -> None:
    """With snapshots=0 none can be taken."""
    with mounted("pool", "size=16M", "page_owner=on", "snapshots=0") as path:
        expect_errno(errno.ENOSPC, (path / "snapshots" / "one").mkdir)


def test_read_only() -> None:
    """A read-only mount takes no snapshots and no filters."""
    with mounted("pool", "size=16M", "page_owner=on", "ro") as path:
        expect_errno(errno.EROFS, (path / "snapshots" / "one").mkdir)
        expect_errno(errno.EROFS, lambda: os.open(path / "page_owner", os.O_RDWR))
        file = path / "page_owner_stacks" / "count_threshold"
        expect_errno(errno.EROFS, lambda: file.write_text("1"))
        assert all(file.read_bytes() is not None for file in tree_files(path).values())


# ---- diff ----


def test_leak(path: Path, take: Callable[[str], Path]) -> None:
    """The biggest growth comes first and what shrank comes last, with the functions."""
    with client(LEAK, path) as child:
        assert said(child) == 1
        snapshot = take("before")
        assert (snapshot / "diff").read_bytes() == b""
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
        assert said(child) == 1
        changes = parse_diff((snapshot / "diff").read_bytes())
    assert [(change.function, *change[:3]) for change in changes] == [
        *(("leaks_without_end", 120, 0, 120), ("leaks_a_little", 3, 0, 3)),
        ("takes_for_a_while", 32, 80, -48),
    ]
    # The leak stays after its process has ended; a snapshot taken now has an empty diff.
    later = take("after")
    assert (later / "diff").read_bytes() == b""
    assert parse_diff((snapshot / "diff").read_bytes()) == changes


def test_diff_of_early_pages() -> None:
    """Freed early pages count as shrinking."""
    with mounted("pool", "size=16M") as path, Pool.attach(path) as pool:
        pages = [pool.alloc_pages(1) for _ in range(4)]
        (path / "page_owner_on").write_text("1")
        (path / "snapshots" / "one").mkdir()
        for page in pages:
            pool.free_pages(page)
        (change,) = parse_diff((path / "snapshots" / "one" / "diff").read_bytes())
        assert change.delta == -8
        assert change.function == "register_early_stack"


def test_diff_sums_up(path: Path, take: Callable[[str], Path]) -> None:
    """After random changes, diff equals the difference between the records of both moments."""
    chance = random.Random(4)

    def here(pool: Pool, order: int) -> int:
        return pool.alloc_pages(order, GFP_KERNEL).pfn

    with Pool.attach(path) as pool:
        blocks = [(here(pool, order), order) for order in (0, 1, 2) * 30]
        snapshot = take("one")
        before = stack_sums(read_shown(path))
        chance.shuffle(blocks)
        for pfn, order in blocks[:50]:
            pool.free_pages(pfn, order)
        for order in (0, 3, 3):
            here(pool, order)
        after = stack_sums(read_shown(path))
        changes = parse_diff((snapshot / "diff").read_bytes())
    deltas = {stack: after.get(stack, 0) - before.get(stack, 0) for stack in before | after}
    assert {change.stack: change.delta for change in changes} == {
        stack: delta for stack, delta in deltas.items() if delta
    }
    assert [change.delta for change in changes] == sorted(
        (change.delta for change in changes), reverse=True
    )
    for change in changes:
        assert change.now == after.get(change.stack, 0)
        assert change.then == before.get(change.stack, 0)


def test_dump() -> None:
    """A snapshot of a dump equals the dump, takes no memory, and has an empty diff."""
    with mounted(f"dump:{SAMPLE}", "snapshots=1K") as path:
        for name in ("one", "two"):
            (path / "snapshots" / name).mkdir()
            assert (path / "snapshots" / name / "page_owner").read_bytes() == SAMPLE.read_bytes()
            assert (path / "snapshots" / name / "diff").read_bytes() == b""
            stacks = path / "snapshots" / name / SHOW_STACKS
            assert stacks.read_bytes() == (path / SHOW_STACKS).read_bytes()
        (path / "snapshots" / "one").rmdir()
        assert (path / "snapshots" / "two" / "page_owner").read_bytes() == SAMPLE.read_bytes()


# ---- one moment ----


def check_snapshot(snapshot: Path) -> int:
    """Check that records do not overlap and sums agree; return the number of records."""
    records = read_shown(snapshot)
    end = 0
    for record in records:
        assert record.pfn >= end, f"{record.pfn:#x} overlaps the record before it"
        assert record.pfn % record.nr_pages == 0
        end = record.pfn + record.nr_pages
    shown = parse_show_stacks((snapshot / SHOW_STACKS).read_bytes())
    assert dict(shown) == stack_sums(records)
    assert len(dict(shown)) == len(shown)
    listed = [file.name for file in (snapshot / "pages").iterdir()]
    assert listed == [hex(record.pfn) for record in records]
    return len(records)


def test_one_moment() -> None:
    """
    In a storm of processes, each snapshot is consistent.

    Each process has at most one incomplete pair: so for each stack and process, all blocks of an
    order are there, or half of a pair is being made or dropped.
    """
    with mounted("pool", "size=64M", "page_owner=on") as path:
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", STORM, path, str(seed)], stdout=subprocess.PIPE, text=True
            )
            for seed in range(NR_WORKERS)
        ]
        try:
            for worker in workers:
                assert said(worker) == 1
            for number in range(NR_SNAPSHOTS):
                snapshot = path / "snapshots" / str(number)
                snapshot.mkdir()
                check_snapshot(snapshot)
                check_pairs(snapshot, [worker.pid for worker in workers])
                snapshot.rmdir()
        finally:
            for worker in workers:
                worker.kill()
                worker.communicate()
        with Pool.attach(path) as pool:
            assert pool.check() == []


def check_pairs(snapshot: Path, tgids: list[int]) -> None:
    """Each process has complete pairs, except for the one that it is making or dropping."""
    for tgid in tgids:
        counts: dict[tuple[int, int], int] = {}
        for record in read_shown(snapshot):
            if record.tgid == tgid:
                key = record.order, record.mask
                counts[key] = counts.get(key, 0) + 1
        odd = [key for key, count in counts.items() if count % 2]
        assert len(odd) <= 1, (tgid, counts)
        assert sum(counts.values()) <= 2 * 41
