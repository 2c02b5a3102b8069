"""Mounts of any source that last for a module, and what is read of their files.

The text is parsed by patterns of its own, not by the package, so that a test has a second opinion.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

MODULE = (sys.executable, "-m", "pageownerfs")
TIMEOUT = 30.0
DATA = Path(__file__).resolve().parent.parent / "data"
SAMPLE = DATA / "oracle_sample.txt"
ORACLE = Path(__file__).resolve().parent.parent.parent.parent / "shared" / "oracle"

# A comm may hold anything: what follows it is taken from the end of its line.
_RECORD = re.compile(
    rb"Page allocated via order (\d+), mask (0x[0-9a-f]+)\([^)\n]*\), pid (\d+), tgid (\d+) "
    rb"\((.{0,15}?)\), ts (\d+) ns(?:, free_ts \d+ ns)?\n"
    rb"PFN (0x[0-9a-f]+|\d+) type (\w+) Block (\d+) type (\w+) Flags (0x[0-9a-f]+\([^)\n]*\))\n"
    rb"((?: [^\n]+\n)*)((?:[^ \n][^\n]*\n)*)\n",
    re.DOTALL,
)
_COUNTED = re.compile(rb"((?: [^\n]+\n)*)nr_base_pages: (\d+)\n\n")
_HANDLE_COUNTED = re.compile(rb"handle: (\d+)\nnr_base_pages: (\d+)\n\n")
_HANDLE_STACK = re.compile(rb"((?: [^\n]+\n)*)handle: (\d+)\n\n")


class Shown(NamedTuple):
    """A record, as its text says it."""

    order: int
    mask: int
    pid: int
    tgid: int
    comm: bytes
    ts: int
    pfn: int
    page_mt: str
    block: int
    block_mt: str
    flags: bytes
    stack: bytes
    """Lines that begin with a blank."""
    notes: bytes
    """Those behind them."""
    text: bytes
    """All of it."""

    @property
    def nr_pages(self) -> int:
        """Pages of the block."""
        return 1 << self.order

    @property
    def is_early(self) -> bool:
        """Allocated before tracking began."""
        return b" register_early_stack+0x" in self.stack

    @property
    def function(self) -> str:
        """The innermost function."""
        return self.stack.partition(b"+")[0].decode().strip()


def parse_shown(text: bytes) -> list[Shown]:
    """Read a text of page_owner; fail if anything but records is in it."""
    records, end = [], 0
    while end < len(text):
        found = _RECORD.match(text, end)
        assert found, text[end : end + 300]
        end = found.end()
        order, mask, pid, tgid, comm, ts, pfn, page_mt, block, block_mt, flags, stack, notes = (
            found.groups()
        )
        records.append(
            Shown(
                *(int(order), int(mask, 16), int(pid), int(tgid), comm, int(ts), int(pfn, 0)),
                *(page_mt.decode(), int(block), block_mt.decode(), flags, stack, notes, found[0]),
            )
        )
    return records


def read_shown(mnt: Path) -> list[Shown]:
    """Read page_owner of a mount, or of a snapshot."""
    return parse_shown((mnt / "page_owner").read_bytes())


def stack_sums(records: list[Shown]) -> dict[bytes, int]:
    """Sum up the base pages of each stack; early pages have none."""
    sums: Counter[bytes] = Counter()
    for record in records:
        if not record.is_early:
            sums[record.stack] += record.nr_pages
    return dict(sums)


def _all_of(pattern: re.Pattern[bytes], text: bytes) -> list[tuple[bytes, bytes]]:
    pairs, end = [], 0
    while end < len(text):
        found = pattern.match(text, end)
        assert found, text[end : end + 300]
        pairs.append((found[1], found[2]))
        end = found.end()
    return pairs


def parse_show_stacks(text: bytes) -> list[tuple[bytes, int]]:
    """Stacks and their pages, in the order of show_stacks."""
    return [(stack, int(count)) for stack, count in _all_of(_COUNTED, text)]


def parse_show_handles(text: bytes) -> list[tuple[int, int]]:
    """Handles and their pages, in the order of show_handles."""
    return [(int(handle), int(count)) for handle, count in _all_of(_HANDLE_COUNTED, text)]


def parse_show_stacks_handles(text: bytes) -> list[tuple[bytes, int]]:
    """Stacks and their handles, in the order of show_stacks_handles."""
    return [(stack, int(handle)) for stack, handle in _all_of(_HANDLE_STACK, text)]


def read_stats(mnt: Path) -> dict[str, int]:
    """Read stats; fail if a line is not ``name value``."""
    lines = (mnt / "stats").read_text().splitlines()
    assert all(re.fullmatch("[a-z0-9_]+ [0-9]+", line) for line in lines), lines
    pairs = [line.split(" ") for line in lines]
    stats = {name: int(value) for name, value in pairs}
    assert len(stats) == len(lines)
    return stats


def read_unbuffered(path: Path, size: int, flags: int = os.O_RDONLY) -> bytes:
    """Read all of a file by read()s of one size."""
    fd = os.open(path, flags)
    try:
        return b"".join(iter(lambda: os.read(fd, size), b""))
    finally:
        os.close(fd)


def read_filtered(mnt: Path, *commands: str, size: int = 1 << 16) -> bytes:
    """Read all of page_owner after writing filters, each by a write() of its own."""
    fd = os.open(mnt / "page_owner", os.O_RDWR)
    try:
        for command in commands:
            assert os.write(fd, command.encode()) == len(command)
        return b"".join(iter(lambda: os.read(fd, size), b""))
    finally:
        os.close(fd)


def oracle_file(name: str) -> Path:
    """Path of a file of the real kernel's; the test is skipped where there are none."""
    path = ORACLE / name
    if not path.is_file():
        pytest.skip(f"There is no {name} of a real kernel here.")
    return path


# ---- mounts ----


def is_mounted(path: Path) -> bool:
    """Whether /proc/self/mounts has the path."""
    lines = Path("/proc/self/mounts").read_text(errors="surrogateescape").splitlines()
    return str(path) in {line.split(" ")[1] for line in lines}


def process_lives(pid: int) -> bool:
    """Whether the process runs."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_until(condition: Callable[[], bool], timeout: float = TIMEOUT) -> bool:
    """Poll the condition until it holds; whether it did in time."""
    deadline = time.monotonic() + timeout
    while not (held := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return held


def status_of(path: Path) -> dict[str, Any]:
    """What the mount says of itself: ``pageownerfs status --json`` reads the same."""
    status: dict[str, Any] = json.loads(os.getxattr(path, "user.pageownerfs"))
    return status


def run_mount(
    source: str,
    path: Path,
    *args: str,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``pageownerfs SOURCE PATH ARGS``, which may fail."""
    # Output goes to a file: a daemon that keeps it open must not make the test wait.
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(
            [*MODULE, source, path, *args],
            stdin=stdin,
            stdout=output,
            stderr=output,
            timeout=TIMEOUT,
            cwd=cwd,
            check=False,
        )
        output.seek(0)
        text = output.read()
    assert "Traceback" not in text, text
    return subprocess.CompletedProcess(done.args, done.returncode, "", text)


def _remove(path: Path, pid: int, shm_path: str | None) -> None:
    if is_mounted(path):
        lazily = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount", "-u", "-z"]
        subprocess.run([*lazily, path], check=False, capture_output=True)
    if pid and process_lives(pid):
        with suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()
    if shm_path is not None:
        Path(shm_path).unlink(missing_ok=True)


@contextmanager
def mounted(
    source: str,
    *options: str,
    args: tuple[str, ...] = (),
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    cwd: Path | None = None,
) -> Iterator[Path]:
    """
    Mount a source in the background, give the mount point, and see that nothing is left of it.

    :param source: ``pool``, ``dump:FILE``, ``trace:FILE``
    :param options: of ``-o``
    :param args: more of the command line
    """
    with tempfile.TemporaryDirectory(prefix="pageownerfs-views-") as top:
        path = Path(top).resolve() / "mnt"
        path.mkdir()
        line = [word for option in options for word in ("-o", option)]
        done = run_mount(source, path, *line, *args, stdin=stdin, cwd=cwd)
        assert done.returncode == 0, done.stderr
        pid, shm_path = 0, None
        try:
            status = status_of(path)
            pid, shm_path = status["pid"], status.get("shm_path")
            yield path
            # As `pageownerfs umount`, and faster.
            subprocess.run(["fusermount", "-u", path], check=True)
            assert wait_until(lambda: not process_lives(pid)), f"the daemon {pid} still runs"
            assert not is_mounted(path)
            assert shm_path is None or not Path(shm_path).exists()
        finally:
            _remove(path, pid, shm_path)


@contextmanager
def client(code: str, *argv: str | Path) -> Iterator[subprocess.Popen[str]]:
    """
    Run Python code as a process of its own, and end it by closing its standard input.

    The code reads ``sys.argv[1:]``, prints what it has to say, and ends when it has read
    standard input to its end.
    """
    with subprocess.Popen(
        [sys.executable, "-c", code, *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            yield child
        finally:
            child.communicate()


def said(child: subprocess.Popen[str]) -> Any:
    """The next line of a client's output, which is JSON."""
    assert child.stdout is not None
    return json.loads(child.stdout.readline())


def tree_files(mnt: Path) -> Mapping[str, Path]:
    """All files of a mount that are listed, by their path in it; of pages only the first one."""
    files: dict[str, Path] = {}
    for folder, _, names in os.walk(mnt):
        some = sorted(names)[:1] if Path(folder).name == "pages" else names
        for name in some:
            path = Path(folder) / name
            files[str(path.relative_to(mnt))] = path
    return files
