"""``pagetypeinfo``: the text of /proc, and the section that stock kernels lack."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_mount import KernelMount

pytestmark = pytest.mark.require("fuse", "root", "bpf")

MIXED = "Number of mixed blocks "
ROW = re.compile(r"Node (\d+), zone +(\S+) ((?: *\d+ )+)")


def test_it_is_procs_with_mixed_blocks(tracked: KernelMount) -> None:
    """Types, zones and layout match /proc/pagetypeinfo."""
    text = (tracked.path / "pagetypeinfo").read_text()
    own = Path("/proc/pagetypeinfo").read_text()
    head, _, tail = text.partition("\n" + MIXED)
    title = next(line for line in own.splitlines() if line.startswith("Number of blocks type"))
    assert head.splitlines()[:2] == own.splitlines()[:2]
    names, *rows = tail.splitlines()
    assert names == title[len(MIXED) :]
    blocks = [line for line in own.splitlines() if ROW.fullmatch(line)]
    if MIXED not in own:
        assert len(rows) == len(blocks)
    for row in rows:
        found = ROW.fullmatch(row)
        assert found
        assert len(found[3].split()) == len(names.split())


def test_no_pagetypeinfo_with_a_filter(mount_kernel: Callable[..., KernelMount]) -> None:
    """A mount with a filter has no pagetypeinfo, because it does not know all pages."""
    mount = mount_kernel("page_owner=on,comm=nobody")
    assert not (mount.path / "pagetypeinfo").exists()
