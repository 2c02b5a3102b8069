"""Runs of page_owner_sort, the kernel's and ours, and their output."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
from typing import TYPE_CHECKING, NamedTuple

from pageownerfs.page_owner_sort.command import main

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TIMEOUT = 60.0  # seconds; a run takes milliseconds, or one or two seconds with a large dump
_GROUP_START = re.compile(rb"^(?=[0-9]+ times, [0-9]+ pages[,: ])", re.MULTILINE)
_GROUP_LINE = re.compile(rb"([0-9]+) times, ([0-9]+) pages(.*)", re.DOTALL)


class Run(NamedTuple):
    """The result of a run."""

    code: int
    stdout: bytes
    output: bytes | None
    """None if there is no such file."""
    stderr: bytes = b""

    @property
    def compared(self) -> tuple[int, bytes, bytes | None]:
        """What must be the same with both tools: all but stderr."""
        return self[:3]


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def run_kernel(tool: Path, argv: Sequence[str], source: Path, out: Path) -> Run:
    """Run the kernel's tool."""
    out.unlink(missing_ok=True)
    line = [str(tool), *argv, str(source), str(out)]
    done = subprocess.run(line, capture_output=True, check=False, timeout=TIMEOUT)
    return Run(done.returncode, done.stdout, _read(out), done.stderr)


def run_ours(argv: Sequence[str], source: Path | str, out: Path) -> Run:
    """Run our command in this process, which is fast."""
    out.unlink(missing_ok=True)
    stdout, stderr = io.StringIO(), io.StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            code = main([*argv, str(source), str(out)])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    texts = [os.fsencode(stream.getvalue()) for stream in (stdout, stderr)]
    return Run(code, texts[0], _read(out), texts[1])


def sort_ours(argv: Sequence[str], source: Path, out: Path) -> bytes:
    """Run ours on a good dump; it must succeed without complaints. Return what it wrote."""
    run = run_ours(argv, source, out)
    assert (run.code, run.stderr) == (0, b""), run
    assert run.output is not None
    return run.output


def split_groups(output: bytes) -> list[bytes]:
    """Split an output into its groups."""
    return _GROUP_START.split(output)[1:]


def nameless(group: bytes, *, culled: bool) -> bytes:
    """Identify a group: without its numbers and, unless culled by that, the allocator."""
    found = _GROUP_LINE.match(group)
    assert found, group
    rest = found[3]
    return rest if culled else rest.partition(b":\n")[2]


def without(output: bytes, unwanted: set[bytes], *, culled: bool) -> list[bytes]:
    """Return the groups that are not among those, in order."""
    groups = split_groups(output)
    return [group for group in groups if nameless(group, culled=culled) not in unwanted]


def group_names(output: bytes, *, culled: bool) -> set[bytes]:
    """Return the groups that an output has."""
    return {nameless(group, culled=culled) for group in split_groups(output)}
