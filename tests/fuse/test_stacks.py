"""page_owner_stacks: pages by stack, of a dump next to a real kernel's, and of a live pool."""

from __future__ import annotations

import errno
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import pytest
from data import PAGE_OWNER, SAMPLE, kernel_file
from mounts import mounted, wait_until
from views import (
    client,
    parse_show_handles,
    parse_show_stacks,
    parse_show_stacks_handles,
    parse_shown,
    read_filtered,
    read_shown,
    read_stats,
    read_unbuffered,
    said,
    stack_sums,
)

from pageownerfs import GFP_KERNEL, Pool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.require("fuse", "shm"), pytest.mark.slow]

FOLDER = "page_owner_stacks"
ORACLE_STACKS = 510
NR_READERS = 50
HANDLE = re.compile(rb"^handle: (\d+)$", re.MULTILINE)

# Allocates and frees through several functions, forever.
LOOP = r"""
import random, sys
from pageownerfs import Pool

def keeps(pool, order):
    return pool.alloc_pages(order)

def keeps_more(pool, order):
    return keeps(pool, order)

def drops(pool, order):
    pool.free_pages(pool.alloc_pages(order, 0x100cca))

with Pool.attach(sys.argv[1]) as pool:
    chance, pages = random.Random(int(sys.argv[2])), []
    print("1", flush=True)
    while True:
        order = chance.choice((0, 0, 0, 1, 3))
        drops(pool, order)
        pages.append(chance.choice((keeps, keeps_more))(pool, order))
        if len(pages) > 60:
            pool.free_pages(pages.pop(chance.randrange(len(pages))))
"""


@pytest.fixture(scope="module")
def dump() -> Iterator[Path]:
    """Mount the sample from a real kernel."""
    with mounted(f"dump:{SAMPLE}") as path:
        yield path


@pytest.fixture(scope="module")
def pool_path() -> Iterator[Path]:
    """Mount a pool with early pages, some stacks and no active client."""
    with mounted("pool", "size=64M") as path:
        with Pool.attach(path) as pool:
            early = [pool.alloc_pages(1) for _ in range(5)]
            (path / "page_owner_on").write_text("1")
            for function in (one_page, four_pages, eight_pages):
                for _ in range(3):
                    function(pool)
            pool.free_pages(early[0])
        yield path


@pytest.fixture
def live() -> Iterator[Path]:
    """Mount a pool for one test."""
    with mounted("pool", "size=64M", "page_owner=on") as path:
        yield path


def one_page(pool: Pool) -> int:
    """Leave one page allocated."""
    return pool.alloc_pages(0, GFP_KERNEL).pfn


def four_pages(pool: Pool) -> int:
    """Leave four pages allocated."""
    return pool.alloc_pages(2, GFP_KERNEL).pfn


def eight_pages(pool: Pool) -> int:
    """Leave eight pages allocated."""
    return pool.alloc_pages(3, GFP_KERNEL).pfn


def counts(mnt: Path) -> dict[bytes, int]:
    """Read show_stacks, in which each stack occurs once."""
    pairs = parse_show_stacks((mnt / FOLDER / "show_stacks").read_bytes())
    found = dict(pairs)
    assert len(found) == len(pairs)
    return found


# ---- next to a real kernel ----


@pytest.mark.slow
def test_oracle() -> None:
    """
    The counts of a dump equal those that the kernel printed for its stacks.

    The kernel's files were read one after the other, and the readers allocated pages meanwhile,
    so a few stacks differ by a few pages.
    """
    there = dict(parse_show_stacks(kernel_file("show_stacks.txt")))
    assert len(there) == ORACLE_STACKS
    with mounted(f"dump:{PAGE_OWNER}") as path:
        here = counts(path)
        assert here == stack_sums(read_shown(path))
    equal = {stack for stack in there if here.get(stack) == there[stack]}
    assert len(equal) >= 488
    stacks = here.keys() | there.keys()
    assert len(stacks) - len(equal) <= 23
    difference = sum(abs(here.get(stack, 0) - there.get(stack, 0)) for stack in stacks)
    assert difference < 0.002 * sum(there.values())


@pytest.mark.slow
def test_oracle_threshold() -> None:
    """With count_threshold 2000, the same few stacks remain as on the kernel."""
    text = kernel_file("show_stacks.2000.txt")
    there = dict(parse_show_stacks(text))
    with mounted(f"dump:{PAGE_OWNER}") as path:
        (path / FOLDER / "count_threshold").write_text("2000")
        here = counts(path)
    assert here.keys() == there.keys()
    assert all(abs(here[stack] - there[stack]) < 0.01 * there[stack] for stack in there)


def test_dump_sums(dump: Path) -> None:
    """Each stack of a dump counts the pages of its records."""
    assert counts(dump) == stack_sums(parse_shown(SAMPLE.read_bytes()))
    assert b"register_early_stack" in SAMPLE.read_bytes()
    assert b"register_early_stack" not in (dump / FOLDER / "show_stacks").read_bytes()


# ---- count_threshold ----


def write_threshold(mnt: Path, text: str) -> int:
    """Do one write() as a shell does; return the errno, or 0."""
    fd = os.open(mnt / FOLDER / "count_threshold", os.O_WRONLY | os.O_TRUNC)
    try:
        assert os.write(fd, text.encode()) == len(text)
    except OSError as error:
        return error.errno or -1
    finally:
        os.close(fd)
    return 0


# As a real kernel accepted them (probe.txt), in this order; a newline may follow a number.
WRITES = [
    *(("10", 0, "10"), ("0x10", 0, "16"), ("010", 0, "8"), (" 5", errno.EINVAL, "8")),
    *(("5 ", errno.EINVAL, "8"), ("7000\n", 0, "7000"), ("-1", errno.EINVAL, "7000")),
    *(("abc", errno.EINVAL, "7000"), ("1 2", errno.EINVAL, "7000"), ("\n", errno.EINVAL, "7000")),
    *(("1\n\n", errno.EINVAL, "7000"), ("0x", errno.EINVAL, "7000"), ("08", errno.EINVAL, "7000")),
    ("18446744073709551615", 0, "18446744073709551615"),
    ("18446744073709551616", errno.ERANGE, "18446744073709551615"),
    *(("99999999999", 0, "99999999999"), ("0x1F\n", 0, "31"), ("0", 0, "0")),
]


@pytest.mark.parametrize("mount", ["dump", "pool_path"])
def test_threshold_numbers(mount: str, request: pytest.FixtureRequest) -> None:
    """count_threshold accepts and returns what the kernel's does, errno by errno."""
    path: Path = request.getfixturevalue(mount)
    file = path / FOLDER / "count_threshold"
    assert file.stat().st_mode & 0o7777 == 0o600
    for text, number, value in WRITES:
        assert write_threshold(path, text) == number, text
        assert file.read_text() == value, text
    assert file.read_text() == "0"


@pytest.mark.parametrize("mount", ["dump", "pool_path"])
def test_threshold(mount: str, request: pytest.FixtureRequest) -> None:
    """Only stacks with enough pages are shown, also in show_handles; the third file shows all."""
    path: Path = request.getfixturevalue(mount)
    everything = parse_show_stacks((path / FOLDER / "show_stacks").read_bytes())
    handles = parse_show_handles((path / FOLDER / "show_handles").read_bytes())
    named = (path / FOLDER / "show_stacks_handles").read_bytes()
    try:
        for threshold in (0, 1, 2, 3, 5, 9, 12, 13, 1 << 40):
            subprocess.run(
                ["sh", "-c", f"echo {threshold} > {path}/{FOLDER}/count_threshold"], check=True
            )
            shown = parse_show_stacks((path / FOLDER / "show_stacks").read_bytes())
            assert shown == [pair for pair in everything if pair[1] >= threshold]
            shown_handles = parse_show_handles((path / FOLDER / "show_handles").read_bytes())
            assert shown_handles == [pair for pair in handles if pair[1] >= threshold]
            assert (path / FOLDER / "show_stacks_handles").read_bytes() == named
    finally:
        assert write_threshold(path, "0") == 0


def test_threshold_of_next() -> None:
    """Kernels after 6.19 print a newline after the number."""
    with mounted(f"dump:{SAMPLE}", "format=next") as path:
        file = path / FOLDER / "count_threshold"
        assert file.read_bytes() == b"0\n"
        file.write_text("7\n")
        assert file.read_bytes() == b"7\n"
        assert all(count >= 7 for count in counts(path).values())


# ---- handles ----


@pytest.mark.parametrize("mount", ["dump", "pool_path"])
def test_handles(mount: str, request: pytest.FixtureRequest) -> None:
    """A handle stands for one stack, in three files and in the modes of page_owner."""
    path: Path = request.getfixturevalue(mount)
    named = parse_show_stacks_handles((path / FOLDER / "show_stacks_handles").read_bytes())
    stacks = {handle: stack for stack, handle in named}
    assert len(stacks) == len(named) == len(dict(named))
    by_handle = parse_show_handles((path / FOLDER / "show_handles").read_bytes())
    assert [(stacks[handle], count) for handle, count in by_handle] == parse_show_stacks(
        (path / FOLDER / "show_stacks").read_bytes()
    )
    records = read_shown(path)
    for mode in ("handle", "stack_handle"):
        shown = [int(handle) for handle in HANDLE.findall(read_filtered(path, f"mode={mode}"))]
        for handle, record in zip(shown, records, strict=True):
            assert record.is_early or stacks[handle] == record.stack


def test_early_pages_dont_count(pool_path: Path) -> None:
    """Early pages are in page_owner, but in no file of stacks."""
    assert any(record.is_early for record in read_shown(pool_path))
    assert counts(pool_path) == stack_sums(read_shown(pool_path))
    for name in ("show_stacks", "show_stacks_handles"):
        assert b"register_early_stack" not in (pool_path / FOLDER / name).read_bytes()


# ---- reading ----


@pytest.mark.slow
def test_reads_of_any_size(pool_path: Path) -> None:
    """Small reads and seeks give the bytes of one large read; on 6.12 they broke the kernel."""
    for name in ("show_stacks", "show_handles", "show_stacks_handles"):
        path = pool_path / FOLDER / name
        text = read_unbuffered(path, 1 << 20)
        assert len(text) > 50
        for size in range(1, 18):
            assert read_unbuffered(path, size) == text, size
        chance = random.Random(name)
        fd = os.open(path, os.O_RDONLY)
        try:
            for _ in range(200):
                offset, size = chance.randrange(len(text) + 50), chance.randrange(1, 300)
                assert os.pread(fd, size, offset) == text[offset : offset + size]
                assert os.lseek(fd, offset, os.SEEK_SET) == offset
                assert os.read(fd, size) == text[offset : offset + size]
        finally:
            os.close(fd)


def test_tools_read_it_all(pool_path: Path) -> None:
    """cat, dd and cp read a file of unknown size to its end."""
    path = pool_path / FOLDER / "show_stacks"
    text = read_unbuffered(path, 1 << 20)
    assert path.stat().st_size == len(text)
    for command in ("cat {0}", "dd if={0} bs=7 status=none", "cp {0} /dev/stdout", "cat < {0}"):
        done = subprocess.run(["sh", "-c", command.format(path)], capture_output=True, check=True)
        assert done.stdout == text, command


def test_many_readers(pool_path: Path) -> None:
    """Fifty concurrent readers, threads and processes, all get the whole text."""
    path = pool_path / FOLDER / "show_stacks"
    text = read_unbuffered(path, 1 << 20)
    results: list[bytes] = []
    threads = [
        threading.Thread(target=lambda n=n: results.append(read_unbuffered(path, 100 + n)))
        for n in range(NR_READERS // 2)
    ]
    cats = [
        subprocess.Popen(["cat", path], stdout=subprocess.PIPE) for _ in range(NR_READERS // 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results += [cat.communicate()[0] for cat in cats]
    assert results == [text] * NR_READERS


# ---- a live pool ----


def test_live_sums(live: Path) -> None:
    """show_stacks equals the sums over the records while pages come and go."""
    with Pool.attach(live) as pool:
        pfns: list[tuple[int, int]] = []
        chance = random.Random(3)
        for _ in range(300):
            order, function = chance.choice(((0, one_page), (2, four_pages), (3, eight_pages)))
            pfns.append((function(pool), order))
            if chance.random() < 0.4:
                pfn, order = pfns.pop(chance.randrange(len(pfns)))
                pool.free_pages(pfn, order)
            if chance.random() < 0.1:
                assert counts(live) == stack_sums(read_shown(live))
        by_function: Counter[str] = Counter()
        for record in read_shown(live):
            if not record.is_early:
                by_function[record.function] += record.nr_pages
        assert sum(by_function.values()) == sum(1 << order for _, order in pfns)
        assert by_function.keys() == {"one_page", "four_pages", "eight_pages"}


def test_split_counts(live: Path) -> None:
    """A block that is split keeps its pages in its stack until each is freed."""
    with Pool.attach(live) as pool:
        page = pool.alloc_pages(3, GFP_KERNEL)
        (before,) = counts(live).values()
        pages = pool.split_page(page, 0)
        assert before == 8
        assert sorted(counts(live).values()) == [8]
        for number, one in enumerate(pages, 1):
            pool.free_pages(one)
            assert sum(counts(live).values()) == 8 - number
            assert counts(live) == stack_sums(read_shown(live))


def nr_dead_is(mnt: Path, number: int) -> bool:
    """Return whether that many clients have been recovered after their death."""
    return read_stats(mnt)["dead_clients"] == number


def test_after_sigkill(live: Path) -> None:
    """After clients were killed in the middle of loops, the counts still match the records."""
    for number in range(3):
        children = [
            subprocess.Popen(
                [sys.executable, "-c", LOOP, live, str(10 * number + n)], stdout=subprocess.PIPE
            )
            for n in range(3)
        ]
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == b"1\n"
        # Kill them at different points of their loops.
        for child in children:
            time.sleep(0.03)
            child.send_signal(signal.SIGKILL)
            child.communicate()
        # A client that was killed inside an operation is recovered within half a second.
        assert wait_until(partial(nr_dead_is, live, 3 * (number + 1)))
        with Pool.attach(live) as pool:
            one_page(pool)
        here, records = counts(live), read_shown(live)
        assert here == stack_sums(records)
        assert {record.function for record in records} > {"keeps", "one_page"}
    with Pool.attach(live) as pool:
        assert pool.check() == []


def test_newest_first(live: Path) -> None:
    """The stack that was first seen most recently comes first, whenever it was used again."""
    order = ["one_page", "four_pages", "eight_pages"]
    with Pool.attach(live) as pool:
        pfns = {f.__name__: f(pool) for f in (one_page, four_pages, eight_pages)}
        assert functions(live, "show_stacks") == order[::-1]
        pool.free_pages(pfns["one_page"], 0)
        assert functions(live, "show_stacks") == order[:0:-1]
        loop = [one_page for _ in range(2)]
        for function in loop:
            function(pool)
        # The stack has another line of this test, so it is a different stack.
        assert functions(live, "show_stacks") == ["one_page", *order[:0:-1]]


def functions(mnt: Path, name: str) -> list[str]:
    """Return the innermost function of each stack in a file."""
    text = (mnt / FOLDER / name).read_bytes()
    pairs = parse_show_stacks(text) if name == "show_stacks" else parse_show_stacks_handles(text)
    return [stack.partition(b"+")[0].decode().strip() for stack, _ in pairs]


def test_used_again(live: Path) -> None:
    """A stack that is used again keeps its place."""
    with Pool.attach(live) as pool:
        for function in (one_page, four_pages, one_page, four_pages, one_page):
            pool.free_pages(function(pool), 0 if function is one_page else 2)
        assert functions(live, "show_stacks") == []
        assert functions(live, "show_stacks_handles") == ["four_pages", "one_page"]
        assert (live / FOLDER / "show_handles").read_bytes() == b""


def test_all_freed(live: Path) -> None:
    """A stack without pages is no longer shown, but its handle still has a meaning."""
    with Pool.attach(live) as pool:
        pfn = one_page(pool)
        four_pages(pool)
        before = (live / FOLDER / "show_stacks_handles").read_bytes()
        pool.free_pages(pfn, 0)
        assert (live / FOLDER / "show_stacks_handles").read_bytes() == before
        assert functions(live, "show_stacks") == ["four_pages"]
        assert b" one_page+" in before
        assert len(parse_show_handles((live / FOLDER / "show_handles").read_bytes())) == 1


def test_of_processes(live: Path) -> None:
    """The same stack in two processes is one stack with the pages of both."""
    code = (
        "import sys; from pageownerfs import Pool\n"
        "def of_both(pool):\n    return pool.alloc_pages(1).pfn\n"
        "with Pool.attach(sys.argv[1]) as pool:\n"
        "    print(of_both(pool), flush=True)\n    sys.stdin.read()\n"
    )
    with client(code, live) as first, client(code, live) as second:
        assert said(first) != said(second)
        assert [
            (f, c)
            for f, c in zip(functions(live, "show_stacks"), counts(live).values(), strict=True)
        ] == [("of_both", 4)]
