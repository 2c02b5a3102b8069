"""A trace of the allocator's events as a mount: the pages at its end, or at a time in it."""

from __future__ import annotations

import lzma
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from data import TRACE, TRACE_SAMPLE
from mounts import MODULE, is_mounted, mounted, run_mount, status_of
from views import parse_show_stacks, parse_shown, read_shown, read_stats, stack_sums

from pageownerfs.page_owner_sort import read_records

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.require("fuse"), pytest.mark.slow]

ORACLE_LIVE = 540
EVENT = re.compile(
    r"^ *(.+)-(\d+) +\[\d+\] \S+ +(\d+)\.(\d+): (mm_page_alloc|mm_page_free): page=\S+ pfn=(\S+) "
    r"order=(\d+)(.*)$",
    re.MULTILINE,
)


class Live(NamedTuple):
    """A block at the end of a trace."""

    pfn: int
    order: int
    pid: int
    comm: str
    usec: int


def replay(text: str, until_usec: int | None = None) -> dict[int, Live]:
    """Replay a trace in which no block is split: a model in a few lines."""
    live: dict[int, Live] = {}
    for comm, pid, seconds, usec, name, pfn, order, _ in EVENT.findall(text):
        at = int(seconds) * 10**6 + int(usec)
        if until_usec is not None and at > until_usec:
            break
        block = Live(int(pfn, 0), int(order), int(pid), comm, at)
        if name == "mm_page_alloc":
            live[block.pfn] = block
        else:
            live.pop(block.pfn, None)
    return live


@pytest.fixture(scope="module", params=[TRACE, TRACE_SAMPLE], ids=["whole", "sample"])
def saved(request: pytest.FixtureRequest) -> Path:
    """Return a trace of a real kernel: the complete one, and the sample."""
    return Path(request.param)


@pytest.fixture(scope="module")
def text(saved: Path) -> str:
    """Return its text."""
    data = saved.read_bytes()
    return (lzma.decompress(data) if saved.suffix == ".xz" else data).decode()


@pytest.fixture(scope="module")
def trace(saved: Path) -> Iterator[Path]:
    """Mount it."""
    with mounted(f"trace:{saved}") as path:
        yield path


@pytest.fixture(scope="module")
def sample() -> Iterator[Path]:
    """Mount the sample, which is always available."""
    with mounted(f"trace:{TRACE_SAMPLE}") as path:
        yield path


def test_live_pages(trace: Path, text: str) -> None:
    """At the end exactly the pages are live that a simple replay leaves."""
    records = read_shown(trace)
    live = replay(text)
    assert {(r.pfn, r.order, r.pid) for r in records} == {b[:3] for b in live.values()}
    assert [r.pfn for r in records] == sorted(live)
    for record in records:
        block = live[record.pfn]
        assert record.comm.decode() == block.comm
        assert record.ts == block.usec * 1000


def test_as_page_owner() -> None:
    """The traced process has as many pages as the kernel's page_owner showed then."""
    with mounted(f"trace:{TRACE}") as path:
        records = read_shown(path)
    pages = Counter(record.tgid for record in records for _ in range(record.nr_pages))
    assert ORACLE_LIVE in pages.values()


@pytest.mark.parametrize("by_option", [False, True])
def test_until(saved: Path, text: str, *, by_option: bool) -> None:
    """``--until`` and ``-o until=`` end the replay at a time in the trace."""
    events = EVENT.findall(text)
    for number in (0, len(events) // 3, len(events) // 2):
        seconds, usec = events[number][2:4]
        until_usec = int(seconds) * 10**6 + int(usec)
        live = replay(text, until_usec)
        until = f"{seconds}.{usec}"
        options, args = ([f"until={until}"], ()) if by_option else ([], ("--until", until))
        with mounted(f"trace:{saved}", *options, args=args) as path:
            shown = {(r.pfn, r.order, r.pid) for r in read_shown(path)}
            assert shown == {block[:3] for block in live.values()}
            assert read_stats(path)["last_ts_nsec"] == until_usec * 1000


def test_stacks(trace: Path, text: str) -> None:
    """Stacks are shown as in page_owner, innermost first, and are counted."""
    records = read_shown(trace)
    lines = [line for record in records for line in record.stack.splitlines()]
    assert lines
    assert all(re.fullmatch(rb" \S.*", line) for line in lines)
    names = set(re.findall(r"^ => (\S+?)(?:\+0x.*)?$", text, re.MULTILINE))
    assert {line.decode().strip().partition("+")[0] for line in lines} <= names
    shown = dict(parse_show_stacks((trace / "page_owner_stacks/show_stacks").read_bytes()))
    assert shown == stack_sums(records)


def test_package_reads_it(trace: Path) -> None:
    """The library and its command read the records as page_owner records."""
    records = list(read_records(str(trace / "page_owner")))
    assert len(records) == len(read_shown(trace))
    by_memory = (trace / "sorted" / "by_memory").read_bytes()
    times = sum(int(n) for n in re.findall(rb"^(\d+) times, ", by_memory, re.MULTILINE))
    assert times == len(records)


def test_kernels_page_owner_sort(trace: Path, page_owner_sort: Path, tmp_path: Path) -> None:
    """The kernel's own tool reads all the records."""
    out = tmp_path / "out"
    for option in ("-t", "-m", "--cull=st"):
        line = [page_owner_sort, option, trace / "page_owner", out]
        subprocess.run(line, check=True, capture_output=True)
        times = sum(int(n) for n in re.findall(rb"^(\d+) times, ", out.read_bytes(), re.MULTILINE))
        assert times == len(read_shown(trace))


def test_no_vmstat_files(sample: Path) -> None:
    """A trace has no files about free memory or block types, and status gives the reason."""
    absent = status_of(sample)["absent"]
    for name in ("buddyinfo", "extfrag", "pagetypeinfo", "page_owner_on"):
        assert not (sample / name).exists()
        assert absent.pop(name)
    assert not absent
    done = subprocess.run([*MODULE, "status", sample], capture_output=True, text=True, check=True)
    assert "a trace does not show which pages are free" in done.stdout
    assert str(TRACE_SAMPLE) in done.stdout


def test_stats(trace: Path, text: str) -> None:
    """The counters match the events."""
    stats = read_stats(trace)
    events = Counter(name for *_, name, _, _, _ in EVENT.findall(text))
    assert stats["alloc_events"] == events["mm_page_alloc"]
    assert stats["free_events"] == events["mm_page_free"]
    assert (stats["damaged_lines"], stats["lost_events"]) == (0, 0)
    assert stats["records"] == len(read_shown(trace))


def test_pages(trace: Path, text: str) -> None:
    """A page freed within the trace is found by its number, with who freed it."""
    live = replay(text)
    freed = [
        int(pfn, 0)
        for *_, name, pfn, order, _ in EVENT.findall(text)
        if name == "mm_page_alloc" and order == "0"
    ]
    gone = [pfn for pfn in freed if pfn not in live]
    assert gone
    listed = {file.name for file in (trace / "pages").iterdir()}
    assert listed == {hex(pfn) for pfn in live}
    page = (trace / "pages" / hex(gone[0])).read_text()
    assert "page_owner tracks the page as freed" in page
    assert "page last free pid " in page


def test_damage(tmp_path: Path) -> None:
    """A truncated or damaged trace is read, and what is missing is reported."""
    lines = TRACE_SAMPLE.read_text().splitlines(keepends=True)
    events = [i for i, line in enumerate(lines) if ": mm_page_alloc: " in line]
    for number in events[5:8]:
        lines[number] = lines[number].replace("pfn=", "pfm=")
    saved = tmp_path / "saved"
    saved.write_text("".join(lines)[:-20])
    with mounted(f"trace:{saved}") as path:
        assert read_stats(path)["damaged_lines"] == 3
        assert read_shown(path)


@pytest.mark.parametrize("kind", ["missing", "directory", "empty", "other", "damaged xz"])
def test_errors(tmp_path: Path, kind: str) -> None:
    """An error is one line that names the file, has an exit code, and leaves nothing mounted."""
    bad, path = tmp_path / "bad", tmp_path / "mnt"
    path.mkdir()
    match kind:
        case "directory":
            bad.mkdir()
        case "empty":
            bad.touch()
        case "other":
            bad.write_text("nothing of a trace\n" * 100)
        case "damaged xz":
            data = bytearray(lzma.compress(TRACE_SAMPLE.read_bytes()))
            data[len(data) // 2 : len(data) // 2 + 50] = bytes(50)
            bad.write_bytes(data)
    done = run_mount(f"trace:{bad}", path)
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert str(bad) in done.stderr
    assert not is_mounted(path)


@pytest.mark.parametrize("until", ["", "x", "-1", "1e3", "1.", "1.0000000001"])
def test_bad_until(tmp_path: Path, until: str) -> None:
    """An invalid time is a usage error."""
    path = tmp_path / "mnt"
    path.mkdir()
    done = run_mount(f"trace:{TRACE_SAMPLE}", path, "-o", f"until={until}")
    assert done.returncode == 2, done.stderr
    assert "until" in done.stderr
    assert not is_mounted(path)


def test_format_6_1(tmp_path: Path, sample: Path) -> None:
    """A trace can be shown in the format of 6.1, and the result is a valid dump."""
    with mounted(f"trace:{TRACE_SAMPLE}", "format=6.1") as path:
        text = (path / "page_owner").read_bytes()
    assert b"PFN 0x" not in text
    assert [r.pfn for r in parse_shown(text)] == [r.pfn for r in read_shown(sample)]
    saved = tmp_path / "saved"
    saved.write_bytes((sample / "page_owner").read_bytes())
    with mounted(f"dump:{saved}") as path:
        assert (path / "page_owner").read_bytes() == saved.read_bytes()
