"""Table 9: our page_owner_sort against the kernel's."""

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
# The text of a whole kernel.
DUMP = ROOT / "tests" / "data" / "linux-6.12" / "page_owner.txt.xz"

ROUNDS, QUICK_ROUNDS = 5, 3
MANY, MOST = 10, 100
# Each copy of the dump has a later ts and higher pids than the one before. With these steps, a
# hundred copies share no pid, and none exceeds the kernel's largest, 4194304.
TS_STEP = 3600 * 10**9
PID_STEP = 40_000
# The kernel's tool holds the text in memory, and the page cache should hold it, too.
MEMORY_FACTOR = 2.1
DISK_FACTOR = 1.25  # the text and the output of both tools

# A comm that the kernel's tool mistakes for another field or for the end of the line.
MISREAD = re.compile(rb"\), ts|ts\s*\d*\s*ns|pid\s*\d*,|order\s*\d*,|\n")
HEADER = re.compile(rb"(.*, pid )(\d+)(, tgid )(\d+)( \(.*\), ts )(\d+)( ns.*\n)", re.DOTALL)
PFN_LINE = re.compile(rb"(PFN 0x)([0-9a-f]+)( .*)")

# Run a command and print its exit code, seconds and KiB. A process inherits the peak memory of the
# process that starts it, so that one has to be small.
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
    """A record of the dump that can be repeated with other numbers."""

    template: bytes
    """A ``%`` format for the numbers below, in their order."""
    pid: int
    tgid: int
    ts_nsec: int
    pfn: int


class Dump(NamedTuple):
    """The records that all inputs are made of."""

    pieces: Sequence[Piece]
    note: str
    """Where the records come from."""

    @property
    def nr_bytes(self) -> int:
        """Approximate size of the text."""
        return sum(len(piece.template) for piece in self.pieces) + 16 * len(self.pieces)


class Case(NamedTuple):
    """A command line and its goals."""

    options: tuple[str, ...]
    times_faster: float
    times_less: float = 0
    """Goal for the kernel's memory divided by ours; 0 for none."""
    max_mb: float = 0
    """Goal for our memory; 0 for none."""

    def __str__(self) -> str:
        """Return the options as the name."""
        return " ".join(self.options) or "default"


class Input(NamedTuple):
    """A text to sort, and the command lines for it."""

    name: str
    nr_copies: int
    shift_pids: bool
    cases: Sequence[Case]
    peer_rounds: int


class Measured(NamedTuple):
    """Time and memory of a tool in each of its rounds."""

    seconds: list[float]
    megabytes: list[float]


def sort_table(*, quick: bool, full: bool = False) -> Table:
    """Table 9: time and memory of the whole process, for one dump and for many copies of it."""
    tools = {"ours": our_tool(), "peer": kernel_tool()}
    dump = read_dump()
    rounds = QUICK_ROUNDS if quick else ROUNDS
    rows: list[Row] = []
    notes = [
        dump.note,
        "time of the whole process, including Python's start-up; memory: peak resident size",
        "both tools write the same bytes in every row",
        "copies differ in PFN and ts, and with 'other pids' also in pid and tgid",
        f"--pid=1 leaves few records; {python_start(rounds)}",
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
        "page_owner_sort against the kernel's (ratio: times faster, times less memory)",
        rows,
        notes,
    )


def make_inputs(rounds: int, nr_most: int, *, full: bool) -> list[Input]:
    """List the inputs; large ones only if nr_most is above MANY."""
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
    """Describe how the largest input was reduced."""
    if nr_most <= MANY:
        return [f"x{MOST} left out: not enough memory or disk"]
    notes = []
    if nr_most < MOST:
        notes.append(f"not enough memory or disk for x{MOST}: scaled down to x{nr_most}")
    if not full:
        notes.append(f"x{nr_most}: the kernel's tool ran once (--full runs it as often as ours)")
    return notes


# ---- the tools ----


def our_tool() -> Path:
    """Find our command in the directory of this Python."""
    path = Path(sys.executable).parent / "page_owner_sort"
    if not path.exists():
        raise PageOwnerError(f"{path}: not installed")
    return path


def kernel_tool() -> Path:
    """Return the kernel's tool from PAGEOWNERFS_PAGE_OWNER_SORT (empty: none), or build it."""
    named = os.environ.get("PAGEOWNERFS_PAGE_OWNER_SORT")
    if named is None:
        script = SCRIPTS / "dev/build-page-owner-sort"
        done = subprocess.run([script], check=True, stdout=subprocess.PIPE, text=True)
        named = done.stdout.strip()
    if not os.access(named, os.X_OK):
        raise PageOwnerError(f"the kernel's page_owner_sort was not found: {named!r}")
    return Path(named)


def python_start(rounds: int) -> str:
    """Measure how long Python takes to do nothing, which no command of ours can beat."""
    nothing = Measured([], [])
    for _ in range(rounds):
        run_tool([sys.executable, "-c", ""], nothing)
    return f"python -c '': {spread(nothing.seconds, 's')}"


def run_tool(command: Sequence[str | Path], measured: Measured) -> float:
    """Run a command, record its time and memory, and return the seconds."""
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
            # Kill the tool as well: it may have minutes and gigabytes ahead of it.
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
    Run both tools on a text, alternating.

    :param rounds: rounds of our tool and of the kernel's; the longer series ends with ours alone
    :raises PageOwnerError: the tools write different output
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
    """Check that both tools wrote the same, and not nothing."""
    sizes = [path.stat().st_size for path in (ours, peer)]
    if 0 in sizes or not filecmp.cmp(ours, peer, shallow=False):
        raise PageOwnerError(
            f"{case}: the outputs differ: ours has {sizes[0]} bytes, the kernel's {sizes[1]}"
        )


def make_rows(name: str, case: Case, measured: dict[str, Measured]) -> list[Row]:
    """Make the row of a case's time, and one of its memory if that has a goal."""
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
    """Make a row judged by how many times less ours takes."""
    text, other = (f"{statistics.median(values):.4g} {unit}" for values in (ours, peer))
    return compared(name, text, other, median_ratio(peer, ours), Goal(limit, at_least=True))


# ---- the texts ----


def read_dump() -> Dump:
    """Read the records that both tools understand."""
    records = list(read_records(os.fspath(DUMP), refuse))
    pieces = [make_piece(record) for record in records if not MISREAD.search(record.comm or b"")]
    size = f"x1: {len(pieces)} records, {Dump(pieces, '').nr_bytes / 1e6:.0f} MB"
    left_out = (
        f"{len(records) - len(pieces)} left out because the kernel's tool misreads their comm"
    )
    return Dump(pieces, f"{size}; {left_out}")


def refuse(damage: Damage) -> NoReturn:
    """Refuse to measure with a damaged text."""
    raise PageOwnerError(f"the input is damaged: {damage}")


def make_piece(record: Record) -> Piece:
    """Turn a record into a template and its numbers."""
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
        raise PageOwnerError(f"this record cannot be reproduced: {record.header!r}")
    return piece


def write_copies(pieces: Sequence[Piece], path: Path, item: Input) -> None:
    """Write several copies of the dump as one text."""
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
        # Finish writing before anything is measured.
        file.flush()
        os.fsync(file.fileno())


def copies_that_fit(wanted: int, nr_bytes: int, directory: Path) -> int:
    """Return how many copies of the dump fit into memory and on disk, up to ``wanted``."""
    memory = psutil.virtual_memory().available - MARGIN_BYTES
    disk = shutil.disk_usage(directory).free
    fit = min(memory / MEMORY_FACTOR, disk / DISK_FACTOR) // nr_bytes
    return min(wanted, max(int(fit), 0))


@contextlib.contextmanager
def clean_directory() -> Iterator[Path]:
    """Yield a directory for large files under TMPDIR that is removed in any case."""

    def end(number: int, _frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    previous = signal.signal(signal.SIGTERM, end)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as directory:
            yield Path(directory)
    finally:
        signal.signal(signal.SIGTERM, previous)
