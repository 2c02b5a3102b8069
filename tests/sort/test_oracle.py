"""The complete dump of a real kernel, sorted by its own tool and by ours, with every option."""

from __future__ import annotations

import gzip
import importlib.util
import os
import re
import subprocess
import sys
from typing import IO, TYPE_CHECKING, NamedTuple

import pytest
from data import KERNEL, PAGE_OWNER, kernel_file
from sort_runs import group_names, run_kernel, run_ours, sort_ours, split_groups, without

from pageownerfs.page_owner_sort import Rules, groups
from pageownerfs.text.input import open_input

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SORTED = KERNEL / "sorted"
SORT = (sys.executable, "-m", "pageownerfs.page_owner_sort")
TIMEOUT = 60.0
# A complete record; a comm is up to 15 arbitrary bytes.
RECORD = re.compile(
    rb"Page allocated via order \d+, mask \S+, pid \d+, tgid \d+ \((.{0,15}?)\), ts \d+ ns\n"
    rb"PFN 0x[^\n]+\n(?:[^\n]+\n)*\n",
    re.DOTALL,
)
MISLEADING = re.compile(rb"\), ts|ts\s*\d*\s*ns|pid \d+,|order \d+,|\n")
# Runs that group by fields that the kernel's tool reads correctly in every record of this dump.
NOT_MISLED = {"cull_pid", "cull_tgid", "cull_ator", "pid", "name", "name_special", "name_list"}
NR_RECORDS = 92_332
NR_MISREAD = 2316


class Recorded(NamedTuple):
    """A run of the kernel's tool whose output was kept."""

    name: str
    argv: list[str]


def recorded_runs() -> list[Recorded]:
    """Return the successful runs of the tool of 6.12, with options that it respects."""
    runs = []
    for text in (SORTED / "runs.txt").read_text().splitlines():
        name, line = text.split("\t")
        option, blank, value = line.partition(" ")
        # A name may contain blanks, but no other value does.
        argv = [option, value] if option == "--name" else line.split()
        assert blank or not value
        runs.append(Recorded(name, argv))
    assert len(runs) == 23
    return runs


def recorded_output(name: str) -> bytes:
    """Return the tool's output for the complete dump; empty outputs were not kept."""
    if name == "name_evil":
        return b""
    return kernel_file(f"sorted/{'default' if name == 't' else name}.txt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make the dump as full.txt, the records that the kernel's tool misreads, and the others."""
    path = tmp_path_factory.mktemp("oracle")
    data = kernel_file("page_owner.txt")
    (path / "full.txt").write_bytes(data)
    records = [(m[0], bool(MISLEADING.search(m[1]))) for m in RECORD.finditer(data)]
    assert len(records) == NR_RECORDS
    assert sum(len(record) for record, _ in records) == len(data)
    assert sum(misread for _, misread in records) == NR_MISREAD
    for name, wanted in (("misread.txt", True), ("rest.txt", False)):
        (path / name).write_bytes(b"".join(r for r, misread in records if misread == wanted))
    yield path
    for file in path.iterdir():
        file.unlink()


@pytest.fixture
def out(folder: Path) -> Path:
    """Yield a file for an output; outputs are large."""
    return folder / "out"


@pytest.mark.slow
@pytest.mark.require("page_owner_sort")
@pytest.mark.parametrize("run", recorded_runs(), ids=lambda run: run.name)
def test_every_option(run: Recorded, page_owner_sort: Path, folder: Path, out: Path) -> None:
    """Without misread records, both tools make the same; with them, all other groups agree.

    The output for the complete dump was recorded. Groups that either tool makes from the misread
    records alone are left out of both outputs. If both tools agree even on those, the groups do
    not depend on the misread fields.
    """
    culled = any(argument.startswith("--cull") for argument in run.argv)
    rest = run_ours(run.argv, folder / "rest.txt", out)
    assert rest.stderr == b""
    assert (
        rest.compared == run_kernel(page_owner_sort, run.argv, folder / "rest.txt", out).compared
    )
    misread = run_kernel(page_owner_sort, run.argv, folder / "misread.txt", out).output or b""
    unwanted = group_names(misread, culled=culled)
    unwanted |= group_names(sort_ours(run.argv, folder / "misread.txt", out), culled=culled)
    kernel = recorded_output(run.name)
    ours = sort_ours(run.argv, folder / "full.txt", out)
    if run.name in NOT_MISLED:
        assert ours == kernel
    kept = without(ours, unwanted, culled=culled)
    assert kept == without(kernel, unwanted, culled=culled)
    if run.name not in {"cull_ator", "name_evil"}:
        assert len(kept) > len(split_groups(ours)) * 0.4


def test_all_records_count(folder: Path, out: Path) -> None:
    """Each record of the dump is in one group, including misread ones."""
    ours = sort_ours(["--cull=name"], folder / "full.txt", out)
    found = re.findall(rb"^(\d+) times, .*task_comm_name: (.*)", ours, re.MULTILINE)
    assert sum(int(times) for times, _ in found) == NR_RECORDS
    assert (b"1542", b"a) b), ts 5 ns") in found
    assert b"774 times, 774 pages, task_comm_name: x\ny\tz\n" in ours


# ---- other ways to read it ----


def packed(kind: str, folder: Path) -> Path:
    """Compress the dump, which comes as xz."""
    path = folder / f"full.txt.{kind}"
    data = (folder / "full.txt").read_bytes()
    if kind == "xz":
        path.write_bytes(PAGE_OWNER.read_bytes())
    elif kind == "gz":
        path.write_bytes(gzip.compress(data, 1))
    elif sys.version_info >= (3, 14):
        from compression import zstd

        path.write_bytes(zstd.compress(data, 1))
    else:
        if importlib.util.find_spec("backports.zstd") is None:
            pytest.skip("needs zstd: backports.zstd is not installed")
        from backports import zstd

        path.write_bytes(zstd.compress(data, 1))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gz", "xz", "zst"])
def test_packed(kind: str, folder: Path, out: Path) -> None:
    """Compressed input gives the same output as plain input."""
    plain = run_ours(["--cull=st,n"], folder / "full.txt", out)
    path = packed(kind, folder)
    assert run_ours(["--cull=st,n"], path, out) == plain
    path.unlink()


def run_piped(source: IO[bytes], argv: list[str], out: Path) -> tuple[int, bytes, bytes]:
    """Run our command with standard input; return exit code, stdout and output."""
    line = [*SORT, *argv, "-", str(out)]
    done = subprocess.run(line, stdin=source, capture_output=True, timeout=TIMEOUT, check=False)
    assert done.stderr == b""
    return done.returncode, done.stdout, out.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("option", ["-t", "-m", "--cull=n,ator,mod"])
def test_two_threads(option: str, folder: Path, out: Path) -> None:
    """Two threads read a large file, and one a pipe or a FIFO, with the same result."""
    path = folder / "full.txt"
    assert path.stat().st_size > groups.PARALLEL_BYTES
    if len(os.sched_getaffinity(0)) > 1:
        with open_input(str(path)) as source:
            assert groups._boundary(source, Rules()) > 0
    by_two = run_ours([option], path, out)
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as cat:
        assert cat.stdout is not None
        assert run_piped(cat.stdout, [option], out) == by_two.compared
    with path.open("rb") as file:
        assert run_piped(file, [option], out) == by_two.compared


@pytest.mark.slow
def test_fifo(folder: Path, out: Path) -> None:
    """A FIFO has size 0, which the kernel's tool does not read; ours does."""
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    plain = run_ours(["-m"], folder / "full.txt", out)
    with subprocess.Popen(["sh", "-c", f"cat {folder}/full.txt >{fifo}"]) as writer:
        assert run_ours(["-m"], fifo, out) == plain
    assert writer.returncode == 0
