"""The other files of the kernel source: stacks, one page, snapshots, filters, fragmentation."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pageownerfs.page_owner_sort import parse_records

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_mount import KernelMount
    from kernel_process import Process

pytestmark = [pytest.mark.require("fuse", "root", "bpf"), pytest.mark.slow]

NR_PAGES = 10_007
MIB = 1 << 20
DELTA = re.compile(rb"(\d+) pages now, (\d+) pages then, delta ([+-]\d+):\n((?: .*\n)*)\n")
CHUNK_BYTES = 1 << 16


def diff_of(path: Path) -> list[tuple[int, bytes]]:
    """Return the delta and stack of each entry of a diff, in order."""
    text = path.read_bytes()
    entries = DELTA.findall(text)
    assert (
        b"".join(b"%b pages now, %b pages then, delta %b:\n%b\n" % entry for entry in entries)
        == text
    )
    assert all(int(now) - int(then) == int(delta) for now, then, delta, _ in entries)
    deltas = [(int(delta), stack) for _, _, delta, stack in entries]
    assert [delta for delta, _ in deltas] == sorted((d for d, _ in deltas), reverse=True)
    return deltas


def test_a_leak_by_two_snapshots(tracked: KernelMount, tmpfs: Path) -> None:
    """Memory of a tmpfs file is the biggest growth in a diff, with the stack that took it."""
    (tracked.path / "snapshots" / "before").mkdir()
    try:
        with (tmpfs / "leak").open("wb", buffering=0) as file:
            for _ in range(64):
                file.write(b"x" * MIB)
        shmem = [
            (d, s) for d, s in diff_of(tracked.path / "snapshots/before/diff") if b"shmem" in s
        ]
        grown = sum(delta for delta, _ in shmem)
        assert grown >= 64 * MIB // 4096 * 0.99
        (tracked.path / "snapshots" / "leaked").mkdir()
        (tmpfs / "leak").unlink()
        shrunk = [
            (d, s) for d, s in diff_of(tracked.path / "snapshots/leaked/diff") if b"shmem" in s
        ]
        assert sum(delta for delta, _ in shrunk) <= -64 * MIB // 4096 * 0.99
    finally:
        for path in (tracked.path / "snapshots").iterdir():
            path.rmdir()
    assert list((tracked.path / "snapshots").iterdir()) == []


def test_stacks_and_records_agree(ours: KernelMount, start: Callable[[], Process]) -> None:
    """While the processes stand still, each stack counts the pages of its records."""
    process = start()
    process.address("anon", NR_PAGES)
    pages: Counter[bytes] = Counter()
    for record in parse_records(ours.page_owner.read_bytes()):
        pages[record.stack] += record.nr_base_pages
    text = (ours.path / "page_owner_stacks/show_stacks").read_bytes()
    shown = {}
    for entry in filter(None, text.split(b"\n\n")):
        stack, _, number = entry.rpartition(b"nr_base_pages: ")
        shown[stack] = int(number)
    assert sum(pages.values()) >= NR_PAGES
    assert shown == pages
    path = ours.path / "snapshots" / "copy"
    path.mkdir()
    try:
        assert (path / "page_owner_stacks/show_stacks").read_bytes().count(b"\n\n") == len(shown)
        # The kernel may move a page meanwhile, and sets flags as it likes.
        copied, now = (
            Counter((record.header, record.stack) for record in parse_records(file.read_bytes()))
            for file in (path / "page_owner", ours.page_owner)
        )
        assert copied == now
    finally:
        path.rmdir()


def test_one_page(ours: KernelMount, start: Callable[[], Process]) -> None:
    """The file of a page names its process, says whether it is alive, and who freed the page."""
    process = start()
    (pfn,) = process.pfns(process.address("anon", 1), 1)
    text = (ours.path / "pages" / f"{pfn:#x}").read_text()
    assert f"page: pfn:{pfn:#x} allocated\n" in text
    assert f"pid {process.pid}, tgid {process.pid} (kernel_process), ts " in text
    assert text.endswith(f"process {process.pid} (kernel_process) is alive\n")
    assert ours.path / "pages" / f"{pfn:#x}" in set((ours.path / "pages").iterdir())
    again = (ours.path / "pages" / str(pfn)).read_text()
    flags = re.compile(r"^flags: .*$", re.MULTILINE)  # the kernel may change them
    assert flags.sub("", again) == flags.sub("", text)
    process.end()
    text = (ours.path / "pages" / f"{pfn:#x}").read_text()
    assert "is alive" not in text
    if "page_owner tracks the page as freed\n" in text:
        assert f"page last free pid {process.pid} tgid {process.pid} stack trace:\n" in text


def test_filters(ours: KernelMount, start: Callable[[], Process]) -> None:
    """A filter shows one reader the pages of one process by handle; others still see all."""
    one, other = start(), start()
    one.address("anon", 17)
    other.address("anon", 23)
    handle = os.open(ours.page_owner, os.O_RDWR)
    try:
        os.write(handle, b"mode=handle tgid=%d nid=0\n" % one.pid)
        text = b"".join(iter(lambda: os.read(handle, CHUNK_BYTES), b""))
    finally:
        os.close(handle)
    records = list(parse_records(text))
    assert {record.tgid for record in records} == {one.pid}
    assert len(records) >= 17
    assert all(not record.stack and record.notes.startswith(b"handle: ") for record in records)
    assert {record.tgid for record in ours.records()} >= {one.pid, other.pid}


def test_free_areas_are_procs(tracked: KernelMount) -> None:
    """Zones, orders and layout of buddyinfo match /proc."""
    own, ours = Path("/proc/buddyinfo").read_text(), (tracked.path / "buddyinfo").read_text()
    assert re.sub(r"\d+", "0", re.sub(" +", " ", ours)) == re.sub(
        r"\d+", "0", re.sub(" +", " ", own)
    )
    for name in ("extfrag_index", "unusable_index"):
        lines = (tracked.path / "extfrag" / name).read_text().splitlines()
        assert len(lines) == len(own.splitlines())
        assert all(len(line.split()) == len(own.splitlines()[0].split()) for line in lines)


def test_every_file_can_be_read(tracked: KernelMount) -> None:
    """Every file in the tree can be read without an error."""
    listed = subprocess.run(["ls", "-lR", tracked.path], capture_output=True, check=False)
    assert (listed.returncode, listed.stderr) == (0, b"")
    found = subprocess.run(
        ["find", tracked.path, "-type", "f", "-exec", "cat", "{}", "+"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    assert (found.returncode, found.stderr) == (0, b"")
