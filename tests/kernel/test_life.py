"""Life of a mount of the kernel source: off, on, killed, two at once, busy, and its status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from kernel_bpf import bpf_ids, bpf_left
from mounts import run_pageownerfs, wait_until

from pageownerfs import NotAPoolError, Pool
from pageownerfs.sources.kernel.features import CALLED_BY_PERF, RAW

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kernel_process import Process

pytestmark = [pytest.mark.require("fuse", "root", "bpf"), pytest.mark.slow]

MountKernel = "Callable[..., KernelMount]"
SORT = (sys.executable, "-m", "pageownerfs.page_owner_sort")
# Names that scripts may rely on.
STATS = {
    *("pages_allocated", "pages_early", "pages_freed", "early_found", "unknown_found"),
    "stale_found",
    *("page_ext_bytes", "stack_depot_bytes", "alloc_events", "free_events", "alloc_filtered"),
    *("stack_walked", "stack_unwound", "stack_checked", "stack_wrong", "stack_failed"),
    *("stack_depot_full", "events_lost"),
}


def test_off_loads_nothing(mount_kernel: MountKernel, start: Callable[[], Process]) -> None:
    """A mount is off by default and loads nothing; writing 1 switches it on."""
    mount = mount_kernel()
    assert "page_owner is off" in mount.messages
    assert f"echo 1 > {mount.path}/page_owner_on" in mount.messages
    assert not any(bpf_ids(mount.pid))
    names = sorted(path.name for path in mount.path.iterdir())
    assert names == ["buddyinfo", "extfrag", "page_owner_on", "stats"]
    assert not mount.page_owner.exists()
    assert (mount.path / "page_owner_on").read_text() == "0\n"
    assert mount.stats() == {}
    assert mount.status()["programs"] == []
    assert "off, nothing is loaded" in run_pageownerfs("status", mount.path).stdout
    subprocess.run(["sh", "-c", f"echo 1 > {mount.path}/page_owner_on"], check=True)
    assert (mount.path / "page_owner_on").read_text() == "1\n"
    assert all(mount.bpf_ids())
    process = start()
    pfns = process.pfns(process.address("anon", 1000), 1000)
    assert len(mount.records_of(process.pid).keys() & set(pfns)) >= 999


def test_off_is_unmounted(mount_kernel: MountKernel) -> None:
    """A mount that never tracked can be unmounted."""
    mount = mount_kernel("page_owner=off")
    mount.umount()
    mount.assert_ended()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda n: n.name)
def test_signals(mount_kernel: MountKernel, number: signal.Signals) -> None:
    """However the daemon ends, the kernel frees its programs and maps."""
    mount = mount_kernel("page_owner=on")
    ids = mount.bpf_ids()
    assert len(ids.programs) >= len(RAW)
    assert bpf_left(ids) == ids
    mount.check_end = number != signal.SIGKILL
    os.kill(mount.pid, number)
    mount.assert_ended()
    assert not any(bpf_left(ids))
    assert mount.mounted == (number == signal.SIGKILL)
    if mount.mounted:
        assert run_pageownerfs("umount", mount.path).returncode == 0
        assert not mount.mounted


def test_two_at_once(mount_kernel: MountKernel, start: Callable[[], Process]) -> None:
    """Two mounts share nothing, and the end of one does not disturb the other."""
    every, some = mount_kernel("page_owner=on"), mount_kernel("page_owner=on", "comm=second")
    assert not every.bpf_ids().maps & some.bpf_ids().maps
    assert not every.bpf_ids().programs & some.bpf_ids().programs
    process = start()
    first = process.pfns(process.address("anon", 500), 500)
    process.name(b"second")
    second = process.pfns(process.address("anon", 500), 500)
    assert len(every.records_of(process.pid).keys() & {*first, *second}) >= 999
    few = {record.pfn: record.comm for record in some.records()}
    assert set(few.values()) == {b"second"}
    assert set(second) <= few.keys()
    assert not set(first) & few.keys()
    some.umount()
    some.assert_ended()
    process.name(b"third")
    third = process.pfns(process.address("anon", 500), 500)
    assert len(every.records_of(process.pid).keys() & {*first, *second, *third}) >= 1498


def test_umount_while_read(mount_kernel: MountKernel) -> None:
    """A reader keeps it mounted; after a lazy unmount it stays whole until the reader closes."""
    mount = mount_kernel("page_owner=on")
    ids = mount.bpf_ids()
    with mount.page_owner.open("rb") as file:
        assert file.read(100).startswith(b"Page allocated via order ")
        done = run_pageownerfs("umount", mount.path)
        assert done.returncode == 3
        assert f"in use by pid {os.getpid()} (" in done.stderr
        subprocess.run(["umount", "-l", mount.path], check=True)
        assert len(file.read(1 << 20)) == 1 << 20
        assert bpf_left(ids) == ids
    mount.assert_ended()


def test_ended_while_read(mount_kernel: MountKernel) -> None:
    """A daemon that is told to end while a text is read ends and leaves nothing."""
    mount = mount_kernel("page_owner=on")
    mount.bpf_ids()
    began = threading.Event()

    def read() -> None:
        try:
            with mount.page_owner.open("rb") as file:
                while file.read(1 << 20):
                    began.set()
        except OSError:
            began.set()

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    assert began.wait(30)
    os.kill(mount.pid, signal.SIGTERM)
    for reader in readers:
        reader.join()
    mount.assert_ended()
    assert not mount.mounted


def test_no_pool(mount_kernel: MountKernel) -> None:
    """A client learns that the kernel source has no pool to allocate from."""
    mount = mount_kernel()
    with pytest.raises(NotAPoolError, match="kernel"):
        Pool.attach(mount.path)
    done = run_pageownerfs("alloc", mount.path)
    assert done.returncode == 4
    assert "kernel" in done.stderr


def test_kernel_abi(mount_kernel: MountKernel, start: Callable[[], Process]) -> None:
    """With kernel_abi the size is 0, each read returns one record, and a position is a PFN."""
    process = start()
    mount = mount_kernel("page_owner=on", "kernel_abi", f"pid={process.pid}")
    pfns = set(process.pfns(process.address("anon", 500), 500))
    assert mount.page_owner.stat().st_size == 0
    fd = os.open(mount.page_owner, os.O_RDONLY)
    try:
        found = []
        while record := os.read(fd, 4096):
            assert record.startswith(b"Page allocated via order ")
            assert record.endswith(b"\n\n")
            found.append(int(record.split(b"\nPFN 0x", 1)[1].split(b" ", 1)[0], 16))
        assert found == sorted(found)
        assert pfns <= set(found)
        one = max(pfns)
        os.lseek(fd, one, os.SEEK_SET)
        assert b"\nPFN 0x%x type" % one in os.read(fd, 4096)
    finally:
        os.close(fd)
    assert mount.status()["kernel_abi"] is True


def test_status(mount_kernel: MountKernel) -> None:
    """``status`` prints the state as text and JSON, and the file stats has the counters."""
    mount = mount_kernel("page_owner=on,comm=nobody's,order=3,stack_depth=7")
    status = mount.status()
    wanted: dict[str, Any] = {
        "source": "kernel",
        "mount_points": [str(mount.path)],
        "page_owner_on": True,
        "stack_depth": 7,
        "filter": {"comm": "nobody's", "order": 3},
        "pid": mount.pid,
    }
    assert {name: status[name] for name in wanted} == wanted
    assert any(set(status["programs"]) >= set(trackers) for trackers in (RAW, CALLED_BY_PERF))
    assert status["size_bytes"] == status["stats"]["page_ext_bytes"] > 1 << 20
    text = run_pageownerfs("status", mount.path).stdout
    for unseen in status["unseen"]:
        assert unseen in text
    assert "filter:" in text
    assert "comm=nobody's, order=3" in text
    listed = json.loads(run_pageownerfs("status", "--json").stdout)
    assert [str(mount.path)] in [one["mount_points"] for one in listed]


def test_stats(mount_kernel: MountKernel, start: Callable[[], Process]) -> None:
    """The counters keep their names and count what happens."""
    mount = mount_kernel("page_owner=on")
    before = mount.stats()
    assert before.keys() >= STATS
    assert before["early_found"] > 0
    process = start()
    process.address("anon", 10_000)
    # They are at most a second old.
    assert wait_until(lambda: mount.stats()["alloc_events"] >= before["alloc_events"] + 10_000)
    assert mount.stats()["pages_allocated"] >= 10_000 * 0.99
    process.end()
    assert wait_until(lambda: mount.stats()["free_events"] >= before["free_events"] + 10_000)
    assert mount.stats()["events_lost"] <= 100


def test_page_owner_sort(mount_kernel: MountKernel, start: Callable[[], Process]) -> None:
    """page_owner_sort works on the mount directly and names the program that leaks."""
    mount = mount_kernel("page_owner=on")
    process = start()
    process.name(b"leaky server")
    process.address("anon", 60_000)

    def sort(*options: str) -> list[bytes]:
        line = [*SORT, *options, "-m", mount.page_owner, "-"]
        done = subprocess.run(line, capture_output=True, check=True)
        assert done.stderr == b""
        return done.stdout.split(b"\n" if options == ("--cull=name",) else b"\n\n")

    # How much the others hold depends on the machine; the order is by memory.
    for options in (["--cull=name"], []):
        nr_pages = [int(group.split(b" ")[2]) for group in sort(*options) if b" pages" in group]
        assert nr_pages == sorted(nr_pages, reverse=True)
        own = [group for group in sort(*options) if b"leaky server" in group]
        assert int(own[0].split(b" ")[2]) >= 60_000
    lines = b"\n".join(sort("--name=leaky server")).splitlines()
    assert int(lines[0].split(b" times, ")[0]) >= 60_000
    names = {line for line in lines if line.startswith(b"Page allocated")}
    assert all(b"(leaky server)" in name for name in names)


def test_user_may_not(tmp_path: Path) -> None:
    """Without the rights, a mount is refused in one line before anything is mounted."""
    line = [sys.executable, "-m", "pageownerfs", "kernel", str(tmp_path), "-o", "page_owner=on"]
    line = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *line]
    done = subprocess.run(line, capture_output=True, check=False)
    assert done.returncode not in (0, 2)
    assert done.stderr.count(b"\n") == 1
    assert not tmp_path.is_mount()
