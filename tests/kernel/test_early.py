"""Pages from before the mount, and pages that no event has shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pageownerfs.sources.kernel.zoneinfo import read_zoneinfo

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_process import Process

pytestmark = [pytest.mark.require("fuse", "root", "bpf"), pytest.mark.slow]

MountKernel = "Callable[..., KernelMount]"
NR = 3_001
LINE = re.compile(r"Node (\d+), zone +(\S+): page owner found early allocated (\d+) pages")


def test_early_pages(mount_kernel: MountKernel, start: Callable[[], Process]) -> None:
    """Pages that a process had before the mount are early; pages touched later are its own."""
    process = start()
    address = process.address("anon", NR)
    pfns = set(process.pfns(address, NR))
    mount = mount_kernel("page_owner=on")
    records = mount.heads_at(pfns)
    assert pfns <= records.keys()
    early = [records[pfn] for pfn in pfns]
    stacks = {record.stack for record in early}
    assert len(stacks) == 1
    assert stacks.pop().startswith(b" register_early_stack+0x")
    comm = Path(f"/proc/{mount.pid}/comm").read_bytes().rstrip(b"\n")
    for record in early:
        assert (record.order, record.mask, record.comm) == (0, b"0x0()", comm)
        assert (record.pid, record.tgid) == (mount.pid, mount.pid)
    process.ask("drop", "-", address, NR)
    process.ask("touch", "-", address, NR)
    again = process.pfns(address, NR)
    records = mount.records_of(process.pid)
    assert len(records.keys() & set(again)) >= NR - 1
    assert all(b"register_early" not in record.stack for record in records.values())


def test_freed_early_pages(mount_kernel: MountKernel, start: Callable[[], Process]) -> None:
    """An early page that is freed has no record any more."""
    process = start()
    address = process.address("anon", NR)
    pfns = set(process.pfns(address, NR))
    mount = mount_kernel("page_owner=on")
    process.end()
    left = mount.heads_at(pfns).values()
    # Some have been taken by others meanwhile, without an event.
    assert len([r for r in left if b"register_early_stack" in r.stack]) < NR // 10


def test_log(mount_kernel: MountKernel) -> None:
    """The log reports the early pages of each zone in the kernel's words."""
    log = Path(mount_kernel().status()["log"])
    # An earlier daemon may have had the same pid.
    old = log.stat().st_size
    mount = mount_kernel("page_owner=on")
    lines = [
        line.partition(f"[{mount.pid}]: ")[2]
        for line in log.read_bytes()[old:].decode(errors="replace").splitlines()
        if f"[{mount.pid}]: " in line
    ]
    found = [match for match in map(LINE.fullmatch, lines) if match]
    zones = [(str(z.nid), z.name) for z in read_zoneinfo() if z.spanned_pages]
    assert [(match[1], match[2]) for match in found] == zones
    for match in found:
        # Node %d, zone %8s: the format of pages_in_zone() in mm/page_owner.c.
        assert match[0].startswith(f"Node {match[1]}, zone {match[2]:>8}: ")
    assert sum(int(match[3]) for match in found) == mount.stats()["early_found"] > 0
