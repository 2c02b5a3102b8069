"""dump:FILE and trace:FILE on the command line: slow pipes and truncated files."""

from __future__ import annotations

import lzma
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import psutil
import pytest
from data import SAMPLE, TRACE_SAMPLE
from mounts import MODULE, TIMEOUT, is_mounted, run_mount, run_pageownerfs, wait_until
from views import read_stats

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.require("fuse")


@pytest.fixture
def mountpoint(tmp_path: Path) -> Iterator[Path]:
    """Yield a directory to mount on, and unmount it at the end."""
    path = tmp_path / "mnt"
    path.mkdir()
    yield path
    if is_mounted(path):
        assert run_pageownerfs("umount", path).returncode == 0


def daemons_of(mountpoint: Path) -> list[psutil.Process]:
    """Return the processes with the mount point as an argument, except zombies."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if os.fspath(mountpoint) in words and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("foreground", [False, True])
@pytest.mark.parametrize("kind", ["dump", "trace"])
def test_who_waits_no_longer(
    mountpoint: Path, kind: str, foreground: bool, number: signal.Signals
) -> None:
    """A signal ends a mount that waits for a pipe; no process and no mount is left."""
    command = [*MODULE, f"{kind}:-", os.fspath(mountpoint), *(["-f"] if foreground else [])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdin is not None
        child.stdin.write(SAMPLE.read_bytes()[:700])
        child.stdin.flush()
        assert wait_until(lambda: len(daemons_of(mountpoint)) == 2 - foreground)
        # Wait until it has got as far as reading.
        time.sleep(0.5)
        child.send_signal(number)
        child.wait(TIMEOUT)
        assert child.returncode != 0
        assert wait_until(lambda: not daemons_of(mountpoint))
    assert not mountpoint.is_mount()


def test_cut_dump(mountpoint: Path, tmp_path: Path) -> None:
    """A truncated compressed dump keeps its beginning, and the loss is reported."""
    path = tmp_path / "cut.xz"
    text = SAMPLE.read_bytes() * 40
    path.write_bytes(lzma.compress(text, preset=0)[:-2000])
    assert run_mount(f"dump:{path}", mountpoint).returncode == 0
    assert read_stats(mountpoint)["cut_files"] == 1
    shown = (mountpoint / "page_owner").read_bytes()
    assert 0 < len(shown) < len(text)
    assert text.startswith(shown[: shown.rindex(b"\n\n") + 2])


def test_cut_trace(mountpoint: Path, tmp_path: Path) -> None:
    """The same holds for a trace."""
    path = tmp_path / "cut.xz"
    path.write_bytes(lzma.compress(TRACE_SAMPLE.read_bytes(), preset=0)[:-1000])
    assert run_mount(f"trace:{path}", mountpoint).returncode == 0
    numbers = read_stats(mountpoint)
    assert numbers["cut_files"] == 1
    assert numbers["alloc_events"] > 0


def test_cut_at_once(mountpoint: Path, tmp_path: Path) -> None:
    """A file with nothing but the start of compressed data is not mounted."""
    path = tmp_path / "cut.xz"
    path.write_bytes(lzma.compress(SAMPLE.read_bytes())[:40])
    done = run_mount(f"dump:{path}", mountpoint)
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1
    assert os.fspath(path) in done.stderr
    assert not mountpoint.is_mount()


def test_options(mountpoint: Path) -> None:
    """Options that make no sense for a file are refused; a limit may be any size."""
    for options in ("page_owner=off", "size=1G", "until=1.5", "format=7", "zones=a:"):
        done = run_mount(f"dump:{SAMPLE}", mountpoint, "-o", options)
        assert done.returncode == 2, options
        assert options.partition("=")[0] in done.stderr
    done = run_mount(
        f"dump:{SAMPLE}", mountpoint, "-o", "page_owner=on,snapshots=99999999999999999999"
    )
    assert done.returncode == 0, done.stderr
    (mountpoint / "snapshots" / "copy").mkdir()
    with pytest.raises(OSError, match="File name too long"):
        (mountpoint / "snapshots" / ("x" * 256)).mkdir()
    (mountpoint / "snapshots" / "copy").rmdir()


def test_names_of_next(mountpoint: Path) -> None:
    """The names in a dump's masks come in the order of the format that is asked for."""
    path = mountpoint.parent / "dump"
    record = (
        "Page allocated via order 0, mask 0x42dc0(GFP_KERNEL|__GFP_NOWARN|__GFP_COMP|__GFP_ZERO), "
        "pid 1, tgid 1 (a), ts 5 ns\nPFN 0x100 type Unmovable Block 0 type Unmovable "
        "Flags 0x0(zone=1)\n f+0x1/0x2\n\n"
    )
    path.write_text(record)
    assert run_mount(f"dump:{path}", mountpoint, "-o", "format=next").returncode == 0
    shown = (mountpoint / "page_owner").read_text()
    assert "0x42dc0(GFP_KERNEL|__GFP_ZERO|__GFP_NOWARN|__GFP_COMP)" in shown
    assert (mountpoint / "pages" / "0x7").read_text().startswith("page: pfn:0x7 has no record")
