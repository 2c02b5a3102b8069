"""Filters: a write to page_owner selects what this open file shows."""

from __future__ import annotations

import errno
import os
import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from data import SAMPLE
from mounts import mounted
from views import Shown, client, parse_shown, read_filtered, read_shown, read_unbuffered, said

from pageownerfs import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.require("fuse", "shm"), pytest.mark.slow]

# Two threads with pages of several sizes.
CLIENT = r"""
import json, os, sys, threading
from pageownerfs import Pool

def work(pool, pids):
    for order in (0, 0, 1, 3) * 15:
        pool.alloc_pages(order, 0x100cca)
    pids.append(threading.get_native_id())

with Pool.attach(sys.argv[1]) as pool:
    pids = []
    work(pool, pids)
    thread = threading.Thread(target=work, args=(pool, pids))
    thread.start()
    thread.join()
    print(json.dumps([os.getpid(), *pids]), flush=True)
    sys.stdin.read()
"""
INVALID = [
    *(
        "x",
        "mode",
        "mode=",
        "mode=x",
        "mode=Stack",
        "mode=stack,handle",
        "nid=",
        "nid=1",
        "nid=0,1",
    ),
    *("nid=-1", "nid=x", "nid=0-", "nid=1-0", "pid=x", "pid=-1", "pid=1,x", "pid=0x1", "pid=1 2"),
    *(
        "tgid=1.0",
        "tgid=1;2",
        "pid=99999999",
        "foo=1",
        "=",
        "=1",
        "mode=handle bad",
        "pid=1 nid=7",
    ),
    *("mode =handle", "MODE=handle", "pid=4294967297"),
]


@pytest.fixture(scope="module")
def pool_path() -> Iterator[Path]:
    """Mount a pool with pages of two processes, which have ended, and of several threads."""
    with mounted("pool", "size=64M", "page_owner=on") as path:
        for _ in range(2):
            with client(CLIENT, path) as child:
                said(child)
        yield path


@pytest.fixture(scope="module")
def dump() -> Iterator[Path]:
    """Mount the sample from a real kernel."""
    with mounted(f"dump:{SAMPLE}") as path:
        yield path


@pytest.fixture(params=["pool_path", "dump"])
def mnt(request: pytest.FixtureRequest) -> Path:
    """Return each of the two mounts."""
    path: Path = request.getfixturevalue(request.param)
    return path


def write_error(mnt: Path, data: bytes) -> int:
    """Return the errno of a write(), or 0 if all of it was accepted."""
    fd = os.open(mnt / "page_owner", os.O_RDWR)
    try:
        assert os.write(fd, data) == len(data)
    except OSError as error:
        return error.errno or -1
    finally:
        os.close(fd)
    return 0


def owners(records: list[Shown]) -> list[int]:
    """Return the threads that have records, those with the most records last."""
    return [pid for pid, _ in Counter(record.pid for record in records).most_common()][::-1]


def matching(records: list[Shown], wanted: Callable[[Shown], bool]) -> bytes:
    """Return the text of the matching records."""
    return b"".join(record.text for record in records if wanted(record))


def test_mode(mnt: Path) -> None:
    """Only the owner may write the file."""
    assert (mnt / "page_owner").stat().st_mode & 0o7777 == 0o600


def test_print_modes(mnt: Path) -> None:
    """The stack, its handle, or both are printed; the rest of a record stays the same."""
    records = read_shown(mnt)
    assert read_filtered(mnt, "mode=stack") == (mnt / "page_owner").read_bytes()
    both = parse_shown(read_filtered(mnt, "mode=stack_handle"))
    handles = parse_shown(read_filtered(mnt, "mode=handle"))
    by_handle: dict[bytes, bytes] = {}
    for record, has_both, has_handle in zip(records, both, handles, strict=True):
        assert has_both.text.replace(has_both.stack, b"", 1) == has_handle.text or not record.stack
        assert has_both.stack == record.stack
        assert has_handle.stack == b""
        found = re.search(rb"^handle: (\d+)\n", has_handle.notes, re.MULTILINE)
        assert found
        assert has_handle.notes.replace(found[0], b"", 1) == record.notes
        assert by_handle.setdefault(found[1], record.stack) == record.stack
        assert record[:11] == has_both[:11] == has_handle[:11]
    assert len(set(by_handle.values())) == len(by_handle)


def test_where_the_handle_stands(mnt: Path) -> None:
    """The handle comes after the stack and before other facts about the page."""
    first = read_shown(mnt)[-1]
    text = parse_shown(read_filtered(mnt, "mode=stack_handle"))[-1].text
    handle = re.search(rb"^handle: \d+\n", text, re.MULTILINE)
    assert handle
    assert text.replace(handle[0], b"", 1) == first.text
    assert text.index(handle[0]) == text.index(first.stack) + len(first.stack)


def test_processes(mnt: Path) -> None:
    """A pid selects threads, a tgid processes; a record that matches either is shown."""
    records = read_shown(mnt)
    pids = owners(records)[-3:]
    tgids = sorted({record.tgid for record in records})[:2]
    for pid in pids:
        assert read_filtered(mnt, f"pid={pid}") == matching(records, lambda r, p=pid: r.pid == p)  # type: ignore[misc]
    for tgid in tgids:
        expected = matching(records, lambda r, t=tgid: r.tgid == t)  # type: ignore[misc]
        assert expected
        assert read_filtered(mnt, f"tgid={tgid}\n") == expected
    several = ",".join(map(str, pids))
    assert read_filtered(mnt, f"pid={several}") == matching(records, lambda r: r.pid in pids)
    either = matching(records, lambda r: r.pid == pids[0] or r.tgid == tgids[0])
    assert read_filtered(mnt, f"pid={pids[0]} tgid={tgids[0]}") == either
    # Unnamed filters stay; an empty list means all.
    assert read_filtered(mnt, f"pid={pids[0]}", f"tgid={tgids[0]}") == either
    everything = (mnt / "page_owner").read_bytes()
    assert read_filtered(mnt, f"pid={pids[0]}", "pid=") == everything
    assert read_filtered(mnt, "pid=4194304") == b""


def test_nodes(mnt: Path) -> None:
    """All pages are on node 0, the only node."""
    everything = (mnt / "page_owner").read_bytes()
    for command in ("nid=0", "nid=0-0", "nid=0,0", "nid=,0,", "nid=0 nid=0\n"):
        assert read_filtered(mnt, command) == everything
    assert write_error(mnt, b"nid=1") == errno.EINVAL
    assert write_error(mnt, b"nid=1024") == errno.ERANGE


def test_several_nodes(tmp_path: Path) -> None:
    """A dump of a machine with two nodes shows the nodes that are asked for."""
    text = "".join(
        f"Page allocated via order 0, mask 0xcc0(GFP_KERNEL), pid {n}, tgid {n} (x), ts {n} ns\n"
        f"PFN {n:#x} type Unmovable Block 0 type Unmovable Flags {n % 2:#x}(node={n % 2}|zone=2)\n"
        " f+0x1/0x2\n\n"
        for n in range(1, 40)
    )
    (tmp_path / "saved").write_text(text)
    with mounted(f"dump:{tmp_path / 'saved'}") as path:
        records = read_shown(path)
        for command, parity in (("nid=0", (0,)), ("nid=1\n", (1,)), ("nid=0-1", (0, 1))):
            expected = matching(records, lambda r, p=parity: r.pfn % 2 in p)  # type: ignore[misc]
            assert read_filtered(path, command) == expected
        assert read_filtered(path, "nid=1,0") == text.encode()
        assert read_filtered(path, "nid=1 pid=3") == records[2].text
        assert read_filtered(path, "nid=0 pid=3") == b""
        for unknown in (b"nid=2", b"nid=0-2"):
            assert write_error(path, unknown) == errno.EINVAL


def test_combinations(mnt: Path) -> None:
    """Filters can be combined in one write or in several, with any blanks between."""
    records = read_shown(mnt)
    pid = owners(records)[-1]
    one = read_filtered(mnt, f"mode=handle nid=0 pid={pid}\n")
    assert one
    assert one == read_filtered(mnt, "mode=handle", f"\t pid={pid}\n\nnid=0  ")
    assert one == read_filtered(mnt, f"pid={pid} nid=0", "mode=handle\n")
    assert one == read_filtered(mnt, "mode=stack mode=handle", f"pid=1,2,3 pid={pid}")
    shown = parse_shown(one)
    assert [(r.pfn, r.order) for r in shown] == [(r.pfn, r.order) for r in records if r.pid == pid]


@pytest.mark.parametrize("text", INVALID)
def test_invalid(pool_path: Path, text: str) -> None:
    """Text that is not understood gives EINVAL, and none of it takes effect."""
    assert write_error(pool_path, text.encode()) == errno.EINVAL
    pid = owners(read_shown(pool_path))[-1]
    expected = read_filtered(pool_path, f"pid={pid} mode=handle")
    fd = os.open(pool_path / "page_owner", os.O_RDWR)
    try:
        os.write(fd, f"pid={pid} mode=handle".encode())
        with pytest.raises(OSError, match="Invalid argument"):
            os.write(fd, text.encode())
        assert read_fd(fd) == expected
    finally:
        os.close(fd)


def test_too_many(pool_path: Path) -> None:
    """At most sixteen numbers may be given: more are E2BIG, and a text too long is EINVAL."""
    for name in ("pid", "tgid"):
        sixteen, more = (f"{name}=" + ",".join(map(str, range(1, n))) for n in (17, 18))
        assert write_error(pool_path, sixteen.encode()) == 0
        assert write_error(pool_path, more.encode()) == errno.E2BIG
        assert write_error(pool_path, f"mode=handle {more}".encode()) == errno.E2BIG
    assert write_error(pool_path, b"mode=handle" + b" " * 4000) == 0
    assert write_error(pool_path, b"mode=handle" + b" " * 5000) == errno.EINVAL
    assert write_error(pool_path, b"\xff=\xfe") == errno.EINVAL
    for blank in (b" ", b"\n", b"\t \n", b"mode=stack\0"):
        assert write_error(pool_path, blank) == 0


def read_fd(fd: int, size: int = 1 << 16) -> bytes:
    """Read to the end."""
    parts = []
    while data := os.read(fd, size):
        parts.append(data)
    return b"".join(parts)


def test_others_are_unaffected(mnt: Path) -> None:
    """Filters belong to one open file: others show everything, and so do later ones."""
    everything = (mnt / "page_owner").read_bytes()
    fds = [os.open(mnt / "page_owner", os.O_RDWR) for _ in range(3)]
    try:
        first = os.read(fds[0], 4096)
        os.write(fds[1], b"mode=handle pid=1")
        assert first + read_fd(fds[0]) == everything
        assert read_fd(fds[2]) == everything
        assert (mnt / "page_owner").read_bytes() == everything
        assert (mnt / "page_owner").stat().st_size == len(everything)
    finally:
        for fd in fds:
            os.close(fd)


@pytest.mark.parametrize("size", [300, 4096, 1 << 17])
def test_position(mnt: Path, size: int) -> None:
    """A write does not move the position, neither before the first read nor between reads."""
    everything = (mnt / "page_owner").read_bytes()
    fd = os.open(mnt / "page_owner", os.O_RDWR)
    try:
        os.write(fd, b"mode=stack")
        parts = [os.read(fd, size)]
        os.write(fd, b"nid=0\n")
        os.write(fd, b"mode=stack nid=0\n")
        parts.append(os.read(fd, size))
        os.write(fd, b"mode=stack")
        assert b"".join(parts) + read_fd(fd, size) == everything
    finally:
        os.close(fd)


def test_change_in_the_middle(mnt: Path) -> None:
    """A filter written between two records applies from the next record on."""
    records = read_shown(mnt)
    handles = parse_shown(read_filtered(mnt, "mode=handle"))
    fd = os.open(mnt / "page_owner", os.O_RDWR)
    try:
        # A buffer of 4096 bytes gets one record.
        assert [os.read(fd, 4096) for _ in range(5)] == [r.text for r in records[:5]]
        os.write(fd, b"mode=handle")
        assert [os.read(fd, 4096) for _ in range(5)] == [r.text for r in handles[5:10]]
        os.write(fd, b"mode=stack\n")
        assert read_fd(fd) == b"".join(r.text for r in records[10:])
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    "command", ["mode=stack", "mode=handle", "mode=stack_handle nid=0\n", " "]
)
@pytest.mark.parametrize("step", [1, 7, 10, 11, 100, 4096, 1 << 16])
def test_restart(pool_path: Path, command: str, step: int) -> None:
    """lseek(0) starts again with the current filters, whatever the size of reads."""
    expected = read_filtered(pool_path, command)
    fd = os.open(pool_path / "page_owner", os.O_RDWR)
    try:
        os.write(fd, command.encode())
        assert os.lseek(fd, 0, os.SEEK_SET) == 0
        # Small steps take long, so they read only the start of the text.
        parts = [os.read(fd, step) for _ in range(400)]
        text = b"".join(parts)
        assert text == expected[: len(text)]
        assert text + read_fd(fd) == expected
        assert os.lseek(fd, 0, os.SEEK_SET) == 0
        assert read_fd(fd) == expected
    finally:
        os.close(fd)


def test_restart_after_reads(pool_path: Path) -> None:
    """Filters written in the middle apply to everything after lseek(0), also for pread()."""
    expected = read_filtered(pool_path, "mode=handle")
    fd = os.open(pool_path / "page_owner", os.O_RDWR)
    try:
        assert len(os.read(fd, 1 << 16)) > 60_000
        os.write(fd, b"mode=handle")
        os.lseek(fd, 0, os.SEEK_SET)
        assert read_fd(fd) == expected
        for offset in range(0, len(expected) + 500, 499):
            assert os.pread(fd, 600, offset) == expected[offset : offset + 600], offset
    finally:
        os.close(fd)


def test_snapshots_have_filters(pool_path: Path) -> None:
    """page_owner of a snapshot accepts filters, too."""
    snapshot = pool_path / "snapshots" / "one"
    snapshot.mkdir()
    try:
        pid = owners(read_shown(pool_path))[-1]
        for command in ("mode=handle", f"pid={pid}", "nid=0"):
            assert read_filtered(snapshot, command) == read_filtered(pool_path, command)
    finally:
        snapshot.rmdir()


def test_kernel_abi() -> None:
    """kernel_abi follows a kernel without filters: EINVAL, and a mode without w."""
    with mounted(f"dump:{SAMPLE}", "kernel_abi") as path:
        assert (path / "page_owner").stat().st_mode & 0o7777 == 0o400
        if os.geteuid():
            pytest.skip("needs root: only root can open a file of mode 0400 for writing")
        for text in (b"mode=handle", b"nid=0", b" ", b"x"):
            assert write_error(path, text) == errno.EINVAL
        assert read_unbuffered(path / "page_owner", 4096) == SAMPLE.read_bytes()


def test_kernel_abi_of_next() -> None:
    """Kernels after 6.19 have filters; a read still gives one record, and a position is a PFN."""
    with mounted(f"dump:{SAMPLE}", "kernel_abi", "format=next") as path:
        assert (path / "page_owner").stat().st_mode & 0o7777 == 0o600
        records, fd = read_shown_by_records(path), os.open(path / "page_owner", os.O_RDWR)
        assert len(records) == len(parse_shown(SAMPLE.read_bytes()))
        try:
            os.write(fd, b"mode=handle\n")
            first = parse_shown(os.read(fd, 4096))
            assert [(r.pfn, r.stack) for r in first] == [(records[0].pfn, b"")]
            os.write(fd, b"mode=stack\n")
            assert os.read(fd, 4096) == records[1].text
            assert os.read(fd, 4096) == records[2].text
            os.write(fd, f"mode=stack tgid={records[9].tgid}".encode())
            left = [r for r in records[3:] if r.tgid == records[9].tgid]
            assert read_fd(fd, 4096) == b"".join(r.text for r in left)
            assert write_error(path, b"nid=1") == errno.EINVAL
        finally:
            os.close(fd)


def read_shown_by_records(mnt: Path) -> list[Shown]:
    """Read page_owner with buffers of 4096 bytes."""
    return parse_shown(read_unbuffered(mnt / "page_owner", 4096))


def test_while_pages_are_allocated(pool_path: Path) -> None:
    """A file opened later shows new pages of the process that the filter selects."""
    with Pool.attach(pool_path) as pool:
        page = pool.alloc_pages(2)
        shown = parse_shown(read_filtered(pool_path, f"tgid={os.getpid()}"))
        assert [record.pfn for record in shown] == [page.pfn]
        pool.free_pages(page)
    assert read_filtered(pool_path, f"tgid={os.getpid()}") == b""
