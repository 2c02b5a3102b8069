"""Mount options: what is tracked, and how much of a stack."""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest
from kernel_process import Process, compile_process, read_pagemap
from mounts import run_pageownerfs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


pytestmark = [pytest.mark.require("fuse", "root", "bpf"), pytest.mark.slow]

MountKernel = "Callable[..., KernelMount]"
NR = 500
SKIPPED = (b"bpf_", b"__bpf", b"__traceiter", b"trace_", b"register_")


def test_comm(mount_kernel: MountKernel, start: Callable[[], Process]) -> None:
    """comm=NAME tracks threads of that name only, and shows no early pages."""
    early = start()
    early.name(b"chosen")
    early_pfns = early.pfns(early.address("anon", NR), NR)
    mount = mount_kernel("page_owner=on", "comm=chosen")
    process = start()
    process.address("anon", NR)
    process.name(b"chosen")
    pfns = process.pfns(process.address("anon", NR), NR)
    process.name(b"chosen one")
    process.address("anon", NR)
    records = {record.pfn: record for record in mount.records()}
    assert {record.comm for record in records.values()} == {b"chosen"}
    assert set(pfns) <= records.keys()
    assert not set(early_pfns) & records.keys()
    assert mount.status()["filter"] == {"comm": "chosen"}
    stats = mount.stats()
    assert stats["pages_early"] == 0
    # Almost every allocation is left out. None of them counts as one that the first copy missed.
    assert stats["alloc_filtered"] > stats["alloc_events"]
    assert stats["events_recovered"] <= stats["events_missed_by_first"]
    text = (mount.path / f"pages/{early_pfns[0]:#x}").read_text()
    assert "free, or left out by the filter" in text


def test_comm_of_bytes(mount_kernel: MountKernel, start: Callable[[], Process]) -> None:
    """A name of 15 bytes that are not all text can be chosen."""
    mount = mount_kernel("page_owner=on", "comm=na\udcff(e)\n9012345")
    process = start()
    process.name(b"na\xff(e)\n9012345")
    pfns = process.pfns(process.address("anon", NR), NR)
    records = {record.pfn: record.comm for record in mount.records()}
    assert set(pfns) <= records.keys()
    assert set(records.values()) == {b"na\xff(e)\n9012345"}


def test_comm_patterns(mount_kernel: MountKernel, start: Callable[[], Process]) -> None:
    """Several names, joined by colons, of which any may match; * stands for any bytes."""
    mount = mount_kernel("page_owner=on", r"comm=first:w*/0\:1*")
    process = start()
    tracked = []
    for name in (b"first", b"first1", b"w/0:1", b"worker/0:1-x", b"w/0", b"1", b"xw/0:1"):
        process.name(name)
        pfns = process.pfns(process.address("anon", NR), NR)
        if name in {b"first", b"w/0:1", b"worker/0:1-x"}:
            tracked += [(pfn, name) for pfn in pfns]
    records = {record.pfn: record.comm for record in mount.records()}
    assert set(tracked) <= records.items()
    assert set(records.values()) == {name for _, name in tracked}
    assert mount.status()["filter"] == {"comm": r"first:w*/0\:1*"}


def test_pid(mount_kernel: MountKernel, start: Callable[[], Process]) -> None:
    """pid=N tracks the process with all its threads."""
    process, other = start(), start()
    mount = mount_kernel("page_owner=on", f"pid={process.pid}")
    pfns = set(process.pfns(process.address("anon", NR), NR))
    other.address("anon", NR)
    words = process.ask("threads", "-", 4, NR)
    for address in words[1::2]:
        pfns |= set(process.pfns(int(address, 16), NR))
    records = {record.pfn: record for record in mount.records()}
    assert {record.tgid for record in records.values()} == {process.pid}
    assert pfns <= records.keys()


def test_pid_of_a_thread(mount_kernel: MountKernel) -> None:
    """pid=N of a thread tracks that thread, but no other thread of its process."""
    ready, go, done = threading.Barrier(2), threading.Barrier(2), threading.Barrier(2)
    tids, areas = [], []

    def allocate() -> None:
        tids.append(threading.get_native_id())
        ready.wait()
        go.wait()
        areas.append(touched())
        done.wait()

    thread = threading.Thread(target=allocate)
    thread.start()
    ready.wait()
    mount = mount_kernel("page_owner=on", f"pid={tids[0]}")
    areas.append(touched())
    go.wait()
    done.wait()
    thread.join()
    mine, others = (set(pfns_of(area)) for area in reversed(areas))
    records = {record.pfn: record for record in mount.records()}
    assert {record.pid for record in records.values()} == {tids[0]}
    assert mine <= records.keys()
    assert not others & records.keys()


def touched() -> mmap.mmap:
    """Yield memory of this process that is backed by pages."""
    area = mmap.mmap(-1, NR * 4096, mmap.MAP_PRIVATE)
    area.madvise(mmap.MADV_NOHUGEPAGE)
    for offset in range(0, len(area), 4096):
        area[offset] = 1
    return area


def pfns_of(area: mmap.mmap) -> list[int]:
    """Return the PFNs of such memory."""
    address = ctypes.addressof(ctypes.c_char.from_buffer(area))
    return read_pagemap(os.getpid(), address, NR)


def test_order(mount_kernel: MountKernel, start: Callable[[], Process]) -> None:
    """order=9 tracks huge pages of every process and nothing else."""
    mount = mount_kernel("page_owner=on", "order=9")
    process = start()
    process.address("anon", NR)
    pfns = process.pfns(process.address("huge", 8 * 512), 8 * 512)
    heads = {pfn for pfn in pfns[::512] if pfn % 512 == 0}
    records = {record.pfn: record for record in mount.records()}
    assert {record.order for record in records.values()} <= {9}
    if len(heads) < 4:
        pytest.skip("needs memory for huge pages")
    assert {pfn for pfn, r in records.items() if r.tgid == process.pid} >= heads


def test_several_filters(mount_kernel: MountKernel, start: Callable[[], Process]) -> None:
    """Several filters must all match."""
    process, other = start(), start()
    mount = mount_kernel("page_owner=on", f"pid={process.pid},comm=both,order=0")
    for one in (process, other):
        one.address("anon", NR)
        one.name(b"both")
    pfns = process.pfns(process.address("anon", NR), NR)
    other.address("anon", NR)
    records = {record.pfn: record for record in mount.records()}
    assert {(r.pid, r.comm, r.order) for r in records.values()} == {(process.pid, b"both", 0)}
    assert set(pfns) <= records.keys()


@pytest.mark.parametrize("depth", [0, 4, 64])
def test_stack_depth(mount_kernel: MountKernel, start: Callable[[], Process], depth: int) -> None:
    """stack_depth=N keeps at most N frames, all of kernel functions; 0 keeps none."""
    process = start()
    mount = mount_kernel("page_owner=on", f"stack_depth={depth},pid={process.pid}")
    pfns = process.pfns(process.address("anon", NR), NR)
    records = mount.records_of(process.pid)
    assert set(pfns) <= records.keys()
    stacks = [records[pfn].stack.splitlines() for pfn in pfns]
    assert max(map(len, stacks)) <= depth
    if depth:
        assert min(map(len, stacks)) == min(depth, len(stacks[0]))
        assert min(map(len, stacks)) >= min(depth, 6)
    assert not any(frame[1:].startswith(SKIPPED) for stack in stacks for frame in stack)
    if depth == 64:
        assert all(b"asm_exc_page_fault+0x" in stack[-1] for stack in stacks)
    assert mount.status()["stack_depth"] == depth


def test_no_free_stacks(mount_kernel: MountKernel, start: Callable[[], Process]) -> None:
    """free_stacks=off records who freed a page and when, but not from where."""
    process = start()
    mount = mount_kernel("page_owner=on,free_stacks=off", f"pid={process.pid}")
    address = process.address("anon", NR)
    pfns = process.pfns(address, NR)
    records = mount.records_of(process.pid)
    assert set(pfns) <= records.keys()
    assert all(b"asm_exc_page_fault+0x" in records[pfn].stack for pfn in pfns)
    process.ask("unmap", "-", address, NR)
    texts = [(mount.path / f"pages/{pfn:#x}").read_text() for pfn in pfns]
    freed = [text for text in texts if "tracks the page as freed" in text]
    assert freed
    bare = [text for text in freed if ", its stack trace was not recorded\n" not in text]
    assert not bare, bare[0]
    # Another task may free a page that waits in a batch of its CPU.
    ours = [text for text in freed if f"page last free pid {process.pid} tgid" in text]
    assert len(ours) >= len(freed) * 0.9
    status = mount.status()
    assert status["free_stacks"] is False
    assert ", no free stacks\n" in run_pageownerfs("status", mount.path).stdout


def test_user_stacks(mount_kernel: MountKernel, tmp_path: Path, tmpfs: Path) -> None:
    """user_stacks adds the frames of the process, as file and offset, below the kernel's."""
    program = compile_process(tmp_path, "user_stacked")
    with Process(program) as process:
        mount = mount_kernel("page_owner=on", f"user_stacks,pid={process.pid}")
        pfns = process.pfns(process.address("anon", NR), NR)
        records = mount.records_of(process.pid)
        for pfn in pfns:
            frames = records[pfn].stack.splitlines()
            user = [frame for frame in frames if frame.endswith(b" [user]")]
            assert frames[-len(user) :] == user
            assert b"asm_exc_page_fault+0x" in frames[-len(user) - 1]
            # touch_innermost, touch_middle, touch, anon, run, main
            mine = [frame for frame in user if frame.startswith(b" user_stacked+0x")]
            assert len(mine) >= 5
            assert len(set(mine)) == len(mine)
        kept = set(process.pfns(process.address("file", NR, word=tmpfs / "file"), NR))
    # The process is gone but its file is not; the frames still have their names.
    left = mount.records_at(kept, process.pid)
    assert len(left) == NR
    for record in left.values():
        assert re.search(rb"^ user_stacked\+0x[0-9a-f/x]+ \[user\]$", record.stack, re.MULTILINE)


def test_user_frames_are_the_callers(mount_kernel: MountKernel, tmp_path: Path) -> None:
    """The innermost user frame lies in the function that touched the page."""
    program = compile_process(tmp_path, "user_framed")
    with Process(program) as process:
        mount = mount_kernel("page_owner=on", f"user_stacks=on,pid={process.pid}")
        pfn = process.pfns(process.address("anon", 1), 1)[0]
        frames = mount.records_of(process.pid)[pfn].stack.splitlines()
    offsets = [int(f.split(b"+")[1].split(b"/")[0], 16) for f in frames if b" user_framed+" in f]
    assert [name_of(program, offset) for offset in offsets[:4]] == [
        "touch_innermost",
        "touch_middle",
        "touch",
        "anon",
    ]


def name_of(program: Path, offset: int) -> str:
    """Return the program's function at a file offset, which equals its address here."""
    lines = subprocess.run(["nm", "-n", program], capture_output=True, text=True, check=True)
    name = ""
    for line in lines.stdout.splitlines():
        words = line.split()
        if len(words) == 3 and words[1] in "tT" and int(words[0], 16) <= offset:
            name = words[2]
    return name


@pytest.mark.parametrize(
    "options",
    [
        "comm=", "comm=sixteen_bytes_16", "comm", "comm=a::b", "comm=a\\",
        "pid=0", "pid=-1", "pid=x", "pid=4194305", "order=11",
        "order=-1", "order=", "stack_depth=65", "stack_depth=-1", "stack_depth=a",
        "free_stacks=", "user_stacks=perhaps", "stack_depot=x", "page_owner=maybe",
        "size=1G", "movablecore=1M", "nonsense=1",
    ],
)  # fmt: skip
def test_wrong_values(tmp_path: Path, options: str) -> None:
    """A wrong value is a usage error, and nothing is mounted."""
    done = run_pageownerfs("kernel", tmp_path, "-o", options)
    assert done.returncode == 2
    assert options.partition("=")[0] in done.stderr
    assert done.stderr.count("\n") <= 2
    assert not tmp_path.is_mount()
