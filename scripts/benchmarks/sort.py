"""Table 9: page_owner_sort against the kernel's tool of that name."""

from __future__ import annotations

import contextlib
import filecmp
import functools
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import psutil

from pageownerfs import PageOwnerError
from pageownerfs.page_owner_sort import Damage, Record, read_records

from .mount import MARGIN_BYTES, SCRIPTS
from .report import Goal, Row, Table, compared, interleaved, limited, median_ratio, spread

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = SCRIPTS.parent
# The text of a whole kernel; without it, one like it is made of the sample.
DUMP = ROOT.parent / "shared" / "oracle" / "page_owner_full.txt.xz"
SAMPLE = ROOT / "tests" / "data" / "oracle_sample.txt"
NR_RECORDS = 92_332
NR_SAMPLE_PIDS = 50  # of each record of the sample; makes as many groups as the dump has

ROUNDS, QUICK_ROUNDS = 5, 3
MANY, MOST = 10, 100
# What each copy of the dump is later, and has higher pids, than the one before. With these a
# hundred copies have no pid in common, and none above a kernel's largest, 4194304.
TS_STEP = 3600 * 10**9
PID_STEP = 40_000
# The kernel's tool has the text in memory, while it should be in the page cache, too.
MEMORY_FACTOR = 2.1
DISK_FACTOR = 1.25  # the text, and what both tools make of it

# A comm that the kernel's tool takes for something else, or for the end of the line.
MISREAD = re.compile(rb"\), ts|ts\s*\d*\s*ns|pid\s*\d*,|order\s*\d*,|\n")
HEADER = re.compile(rb"(.*, pid )(\d+)(, tgid )(\d+)( \(.*\), ts )(\d+)( ns.*\n)", re.DOTALL)
PFN_LINE = re.compile(rb"(PFN 0x)([0-9a-f]+)( .*)")

# Runs a command; prints its exit code, seconds and KiB. A process starts with the memory of the
# one that starts it as its maximum, which therefore has to be a small one.
MEASURE = """
import os, sys, time
command = sys.argv[1:]
to_null = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
start = time.perf_counter()
pid = os.posix_spawn(command[0], command, os.environ, file_actions=to_null)
_, status, usage = os.wait4(pid, 0)
seconds = time.perf_counter() - start
print(os.waitstatus_to_exitcode(status), seconds, usage.ru_maxrss)
"""


class Piece(NamedTuple):
    """A record of the dump, to be made again with other numbers."""

    template: bytes
    """Its text, for ``%`` with the numbers below in their order."""
    pid: int
    tgid: int
    ts_nsec: int
    pfn: int


class Dump(NamedTuple):
    """What all inputs are made of."""

    pieces: Sequence[Piece]
    note: str
    """Where it is from."""

    @property
    def nr_bytes(self) -> int:
        """Its size as a text, but for some digits."""
        return sum(len(piece.template) for piece in self.pieces) + 16 * len(self.pieces)


class Case(NamedTuple):
    """A command line, and what is to be reached with it."""

    options: tuple[str, ...]
    times_faster: float
    times_less: float = 0
    """Of the kernel's tool's memory; 0: no goal."""
    max_mb: float = 0
    """Of memory; 0: no goal."""

    def __str__(self) -> str:
        """Name it by its options."""
        return " ".join(self.options) or "default"


class Input(NamedTuple):
    """A text to sort, and how."""

    name: str
    nr_copies: int
    shift_pids: bool
    cases: Sequence[Case]
    peer_rounds: int


class Measured(NamedTuple):
    """What a tool took, in each of its rounds."""

    seconds: list[float]
    megabytes: list[float]


def sort_table(*, quick: bool, full: bool = False) -> Table:
    """Table 9: time and memory of the whole process, for one dump and for many times it."""
    tools = {"ours": our_tool(), "peer": kernel_tool()}
    dump = read_dump()
    rounds = QUICK_ROUNDS if quick else ROUNDS
    rows: list[Row] = []
    notes = [
        dump.note,
        "time: of the whole process, Python's start included; memory: the most that is resident",
        "what both write is the same, byte for byte, in each row",
        "copies differ in PFN and ts; with other pids, in pid and tgid, too",
        f"--pid=1: few records are left; {python_start(rounds)}",
    ]
    with clean_directory() as directory:
        nr_most = copies_that_fit(MOST, dump.nr_bytes, directory)
        inputs = make_inputs(rounds, 0 if quick else nr_most, full=full)
        if not quick:
            notes += notes_on_most(nr_most, full=full)
        for item in inputs:
            path = directory / "page_owner.txt"
            write_copies(dump.pieces, path, item)
            for case in item.cases:
                measured = measure(tools, path, case, (rounds, item.peer_rounds))
                name = f"{item.name}: {case}"
                rows += make_rows(name, case, measured)
                notes += [
                    f"{name}, {tool}: {spread(measured[tool].seconds, 's')}" for tool in tools
                ]
            path.unlink()
    return Table(
        "page_owner_sort against the kernel's; times faster, times less memory", rows, notes
    )


def make_inputs(rounds: int, nr_most: int, *, full: bool) -> list[Input]:
    """List what is sorted; nothing large if nr_most is not above MANY."""
    options = ((), ("-m",), ("--cull=st",), ("--pid=1",))
    inputs = [Input("x1", 1, False, [Case(one, 10) for one in options], rounds)]
    variants = (("", False), (", other pids", True))
    many = [Case((), 20, times_less=8), Case(("-a",), 5, times_less=4)]
    inputs += [Input(f"x{MANY}{how}", MANY, shift, many, rounds) for how, shift in variants]
    if nr_most > MANY:
        most = [Case((), 20, max_mb=150)]
        peer_rounds = rounds if full else 1
        inputs += [
            Input(f"x{nr_most}{how}", nr_most, shift, most, peer_rounds) for how, shift in variants
        ]
    return inputs


def notes_on_most(nr_most: int, *, full: bool) -> list[str]:
    """Say what is not as wanted with the largest input."""
    if nr_most <= MANY:
        return [f"no memory or disk for x{MOST}: left out"]
    notes = []
    if nr_most < MOST:
        notes.append(f"no memory or disk for x{MOST}: scaled down to x{nr_most}")
    if not full:
        notes.append(f"x{nr_most}: one run of the kernel's tool (--full: as many as of ours)")
    return notes


# ---- the tools ----


def our_tool() -> Path:
    """Find our command, where this Python is."""
    path = Path(sys.executable).parent / "page_owner_sort"
    if not path.exists():
        raise PageOwnerError(f"{path}: not installed")
    return path


def kernel_tool() -> Path:
    """Find the kernel's tool: PAGEOWNERFS_PAGE_OWNER_SORT, empty if there is none; or build it."""
    named = os.environ.get("PAGEOWNERFS_PAGE_OWNER_SORT")
    if named is None:
        script = SCRIPTS / "dev/build-page-owner-sort"
        done = subprocess.run([script], check=True, stdout=subprocess.PIPE, text=True)
        named = done.stdout.strip()
    if not os.access(named, os.X_OK):
        raise PageOwnerError(f"no kernel's page_owner_sort to compare with: {named!r}")
    return Path(named)


def python_start(rounds: int) -> str:
    """Say how long Python takes to do nothing: no command of ours can be faster."""
    nothing = Measured([], [])
    for _ in range(rounds):
        run_tool([sys.executable, "-c", ""], nothing)
    return f"python -c '': {spread(nothing.seconds, 's')}"


def run_tool(command: Sequence[str | Path], measured: Measured) -> float:
    """Run it to its end; seconds, which go to the measured ones, too."""
    helper = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", MEASURE, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    with helper:
        try:
            out, err = helper.communicate()
        except BaseException:
            # The tool as well: it may have minutes and gigabytes ahead of it.
            os.killpg(helper.pid, signal.SIGKILL)
            raise
    exit_code, seconds, kib = out.split() if helper.returncode == 0 else ("?", "0", "0")
    if exit_code != "0":
        raise PageOwnerError(f"{Path(command[0]).name}: exit code {exit_code}: {err.strip()}")
    measured.seconds.append(float(seconds))
    measured.megabytes.append(int(kib) * 1024 / 1e6)
    return float(seconds)


def measure(
    tools: dict[str, Path], path: Path, case: Case, rounds: tuple[int, int]
) -> dict[str, Measured]:
    """
    Run both tools on a text by turns.

    :param rounds: of our tool, and of the other; after as many as there are of both ours goes on
    :raises PageOwnerError: they don't write the same
    """
    outputs = {name: path.with_suffix(f".{name}") for name in tools}
    measured = {name: Measured([], []) for name in tools}
    runs = {
        name: functools.partial(
            run_tool, [tool, *case.options, path, outputs[name]], measured[name]
        )
        for name, tool in tools.items()
    }
    interleaved(1, runs)
    check_same(outputs["ours"], outputs["peer"], case)
    both = min(rounds)
    interleaved(both - 1, runs)
    interleaved(rounds[0] - both, {"ours": runs["ours"]})
    for output in outputs.values():
        output.unlink()
    return measured


def check_same(ours: Path, peer: Path, case: Case) -> None:
    """Check that both tools wrote something, and the same."""
    sizes = [path.stat().st_size for path in (ours, peer)]
    if 0 in sizes or not filecmp.cmp(ours, peer, shallow=False):
        raise PageOwnerError(
            f"{case}: ours writes {sizes[0]} bytes, the kernel's tool {sizes[1]}, not the same"
        )


def make_rows(name: str, case: Case, measured: dict[str, Measured]) -> list[Row]:
    """Make the row of a case's time, and that of its memory if it has a goal."""
    ours, peer = measured["ours"], measured["peer"]
    rows = [make_row(name, ours.seconds, peer.seconds, "s", case.times_faster)]
    name += ", memory"
    if case.times_less:
        rows.append(make_row(name, ours.megabytes, peer.megabytes, "MB", case.times_less))
    if case.max_mb:
        value, other = (statistics.median(tool.megabytes) for tool in (ours, peer))
        goal = Goal(case.max_mb, unit="MB")
        rows.append(limited(name, value, "MB", goal, f"{other:.1f} MB", digits=1))
    return rows


def make_row(name: str, ours: list[float], peer: list[float], unit: str, limit: float) -> Row:
    """Make a row that is judged by how many times less ours is."""
    text, other = (f"{statistics.median(values):.4g} {unit}" for values in (ours, peer))
    return compared(name, text, other, median_ratio(peer, ours), Goal(limit, at_least=True))


# ---- the texts ----


def read_dump() -> Dump:
    """Take the records that both tools understand, of the real dump or of one made up."""
    path = DUMP if DUMP.exists() else SAMPLE
    records = list(read_records(os.fspath(path), refuse))
    pieces = [make_piece(record) for record in records if not MISREAD.search(record.comm or b"")]
    note = f"left out, as the kernel's tool misreads their comm: {len(records) - len(pieces)}"
    if path == SAMPLE:
        note = f"made of the {len(pieces)} records of {SAMPLE.name}"
        pieces = list(repeated(pieces, NR_RECORDS))
    dump = Dump(pieces, "")
    size = f"x1: {len(pieces)} records, {dump.nr_bytes / 1e6:.0f} MB"
    return dump._replace(note=f"{size}, {note}" if path == SAMPLE else f"{size}; {note}")


def refuse(damage: Damage) -> NoReturn:
    """Don't measure anything with a text that is not whole."""
    raise PageOwnerError(f"the input is damaged: {damage}")


def make_piece(record: Record) -> Piece:
    """Put the numbers of a record aside."""
    header = HEADER.fullmatch(record.header)
    pfn_line = PFN_LINE.fullmatch(record.pfn_line)
    if not header or not pfn_line:
        raise PageOwnerError(f"a record without pid, tgid, ts or PFN: {record.header!r}")
    start, pid, to_tgid, tgid, to_ts, ts_nsec, end = header.groups()
    to_pfn, pfn, pfn_end = pfn_line.groups()
    fixed = [start, to_tgid, to_ts, end + to_pfn, pfn_end + b"\n" + record.stacktrace + b"\n"]
    formats = [b"%d", b"%d", b"%d", b"%x", b""]
    template = b"".join(
        text.replace(b"%", b"%%") + item for text, item in zip(fixed, formats, strict=True)
    )
    piece = Piece(template, int(pid), int(tgid), int(ts_nsec), int(pfn, 16))
    if piece.template % piece[1:] != record.text:
        raise PageOwnerError(f"a record that can't be made again: {record.header!r}")
    return piece


def repeated(pieces: Sequence[Piece], nr: int) -> Iterator[Piece]:
    """Give so many pieces, none with the PFN of another, and with some pids each."""
    pfn_step = 1 << max(piece.pfn for piece in pieces).bit_length()
    for number in range(nr):
        turn, index = divmod(number, len(pieces))
        template, pid, tgid, ts_nsec, pfn = pieces[index]
        shift = turn % NR_SAMPLE_PIDS
        yield Piece(template, pid + shift, tgid + shift, ts_nsec + turn, pfn + turn * pfn_step)


def write_copies(pieces: Sequence[Piece], path: Path, item: Input) -> None:
    """Write a text that is the dump several times."""
    pfn_step = 1 << max(piece.pfn for piece in pieces).bit_length()
    with path.open("wb") as file:
        for number in range(item.nr_copies):
            pids = number * PID_STEP if item.shift_pids else 0
            later, higher = number * TS_STEP, number * pfn_step
            copy = [
                template % (pid + pids, tgid + pids, ts_nsec + later, pfn + higher)
                for template, pid, tgid, ts_nsec, pfn in pieces
            ]
            file.write(b"".join(copy))
        # So that nothing is still being written while something is measured.
        file.flush()
        os.fsync(file.fileno())


def copies_that_fit(wanted: int, nr_bytes: int, directory: Path) -> int:
    """Give how many times the dump there is memory and disk for: ``wanted``, or fewer."""
    memory = psutil.virtual_memory().available - MARGIN_BYTES
    disk = shutil.disk_usage(directory).free
    fit = min(memory / MEMORY_FACTOR, disk / DISK_FACTOR) // nr_bytes
    return min(wanted, max(int(fit), 0))


@contextlib.contextmanager
def clean_directory() -> Iterator[Path]:
    """Give a directory for large files, where TMPDIR says, which is gone whatever happens."""

    def end(number: int, _frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    previous = signal.signal(signal.SIGTERM, end)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as directory:
            yield Path(directory)
    finally:
        signal.signal(signal.SIGTERM, previous)
