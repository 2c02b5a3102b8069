"""Writing 0 to page_owner_on: what is left, and what readers get."""

from __future__ import annotations

import errno
import threading
from typing import TYPE_CHECKING

import pytest
from kernel_bpf import bpf_ids
from mounts import run_pageownerfs, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kernel_mount import KernelMount
    from kernel_process import Process

pytestmark = [pytest.mark.require("fuse", "root", "bpf"), pytest.mark.slow]

OURS = "comm=kernel_process"
NR = 300
OFF = {"page_owner_on", "stats", "buddyinfo", "extfrag"}


def switch(mount: KernelMount, value: str) -> None:
    """Write to page_owner_on, and see that it took effect."""
    (mount.path / "page_owner_on").write_text(value)
    assert (mount.path / "page_owner_on").read_text() == f"{value}\n"


def names(path: Path) -> set[str]:
    """List a directory."""
    return {entry.name for entry in path.iterdir()}


def test_off_and_on(
    mount_kernel: Callable[..., KernelMount], start: Callable[[], Process]
) -> None:
    """Off removes everything from the kernel; on starts anew, without the old records."""
    mount = mount_kernel("page_owner=on", OURS)
    first, second = start(), start()
    old = set(first.pfns(first.address("anon", NR), NR))
    assert old <= mount.records_of(first.pid).keys()
    switch(mount, "0")
    assert names(mount.path) == OFF
    assert not mount.page_owner.exists()
    assert wait_until(lambda: not any(bpf_ids(mount.pid)))
    assert mount.stats() == {}
    assert "off, nothing is loaded" in run_pageownerfs("status", mount.path).stdout
    second.address("anon", NR)
    switch(mount, "0")
    switch(mount, "1")
    new = set(first.pfns(first.address("anon", NR), NR))
    records = {record.pfn: record for record in mount.records()}
    assert new <= records.keys()
    assert {record.tgid for record in records.values()} == {first.pid}
    assert all(b"asm_exc_page_fault+0x" in records[pfn].stack for pfn in new)
    assert b"asm_exc_page_fault+0x" in (mount.path / "page_owner_stacks/show_stacks").read_bytes()


def test_open_files_end(
    mount_kernel: Callable[..., KernelMount], start: Callable[[], Process]
) -> None:
    """A file that is open reads as ended, also after switching on again; its table goes then."""
    mount = mount_kernel("page_owner=on", OURS)
    process = start()
    pfn = process.pfns(process.address("anon", NR), NR)[0]
    with (
        mount.page_owner.open("rb", buffering=0) as text,
        (mount.path / f"pages/{pfn:#x}").open("rb", buffering=0) as page,
        (mount.path / "sorted/by_times").open("rb", buffering=0) as ordered,
    ):
        assert text.read(4096)
        assert page.read(64)
        switch(mount, "0")
        assert text.read() == b""
        page.seek(0)
        assert page.read() == ordered.read() == b""
        switch(mount, "1")
        assert text.read() == b""
        text.seek(0)
        assert text.read() == b""
    switch(mount, "0")
    assert wait_until(lambda: not any(bpf_ids(mount.pid)))


def test_snapshots_stay(
    mount_kernel: Callable[..., KernelMount], start: Callable[[], Process]
) -> None:
    """A snapshot is readable while tracking is off, and when it is on again."""
    mount = mount_kernel("page_owner=on", OURS)
    process = start()
    process.address("anon", NR)
    snapshot = mount.path / "snapshots/before"
    snapshot.mkdir()
    files = ("page_owner", "page_owner_stacks/show_stacks", "sorted/by_stacktrace", "stats")
    before = {name: (snapshot / name).read_bytes() for name in files[:1]}
    assert b"asm_exc_page_fault+0x" in before["page_owner"]
    switch(mount, "0")
    assert names(mount.path) == OFF | {"snapshots"}
    before |= {name: (snapshot / name).read_bytes() for name in files[1:]}
    assert all(b"asm_exc_page_fault+0x" in before[name] for name in files[:3])
    assert "diff" not in names(snapshot)
    with pytest.raises(OSError, match="not supported") as caught:
        (mount.path / "snapshots/none").mkdir()
    assert caught.value.errno == errno.EOPNOTSUPP
    switch(mount, "1")
    process.address("anon", NR)
    assert {name: (snapshot / name).read_bytes() for name in files} == before
    assert "diff" not in names(snapshot)
    (mount.path / "snapshots/after").mkdir()
    assert "diff" in names(mount.path / "snapshots/after")
    assert (mount.path / "snapshots/after/diff").read_bytes() is not None
    switch(mount, "0")
    for name in ("before", "after"):
        (mount.path / "snapshots" / name).rmdir()
    assert names(mount.path) == OFF


def test_switching_under_readers(
    mount_kernel: Callable[..., KernelMount], start: Callable[[], Process]
) -> None:
    """Readers get records, the end of the file, or ENOENT, whenever tracking is switched."""
    mount = mount_kernel("page_owner=on", OURS)
    process = start()
    address = process.address("anon", NR)
    pfn = process.pfns(address, NR)[0]
    stop = threading.Event()
    wrong: list[str] = []

    def read(name: str) -> None:
        while not stop.is_set():
            try:
                (mount.path / name).read_bytes()
            except OSError as error:
                if error.errno != errno.ENOENT:
                    wrong.append(f"{name}: {error}")

    files = ["page_owner", "sorted/by_times", f"pages/{pfn:#x}", "stats"]
    readers = [threading.Thread(target=read, args=(name,)) for name in files]
    for thread in readers:
        thread.start()
    for value in "01" * 3:
        switch(mount, value)
        assert names(mount.path) >= OFF
    stop.set()
    for thread in readers:
        thread.join()
    assert wrong == []
    new = set(process.pfns(process.address("anon", NR), NR))
    assert new <= mount.records_of(process.pid).keys()
