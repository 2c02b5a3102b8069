"""Loads that make the running kernel allocate and free pages, and the comparison of their cost."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from pageownerfs import PageOwnerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

NATIVE: Final = Path(__file__).parents[2] / "pageownerfs/native"
SHM: Final = Path("/dev/shm")  # noqa: S108 - a tmpfs
_RESULT: Final = re.compile(r"^pages (\d+) cpu_ns (\d+)$", re.MULTILINE)
_ANON_MIB: Final = 64
_FORK_MIB: Final = 4


class Result(NamedTuple):
    """The output of kernel_load."""

    pages: int
    cpu_ns: int

    @property
    def ns_per_page(self) -> float:
        """CPU time of the load per page."""
        return self.cpu_ns / self.pages


def parse_result(text: str) -> Result:
    """Find the result in the output of a peer and the load."""
    found = _RESULT.search(text)
    if found is None:
        msg = f"the load did not run: {text.strip()[-300:]}"
        raise PageOwnerError(msg)
    return Result(int(found[1]), int(found[2]))


class Loads(NamedTuple):
    """The compiled load and the directory it may write to."""

    program: Path
    directory: Path
    """On a tmpfs."""
    seconds: float

    def command(self, what: str) -> list[str]:
        """Return the command line; ``what`` is anon, tmpfs or fork."""
        mib = _FORK_MIB if what == "fork" else _ANON_MIB
        command = [os.fspath(self.program), what, str(mib), str(self.seconds)]
        return [*command, os.fspath(self.directory / "file")] if what == "tmpfs" else command

    def run(self, what: str) -> Result:
        """Run the load."""
        done = subprocess.run(self.command(what), check=True, stdout=subprocess.PIPE, text=True)
        return parse_result(done.stdout)


@contextlib.contextmanager
def built_loads(seconds: float) -> Iterator[Loads]:
    """Compile kernel_load.c into a temporary directory."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as name,
        tempfile.TemporaryDirectory(prefix="bench-", dir=SHM) as shm,
    ):
        program = Path(name, "kernel_load")
        source = Path(__file__).parent / "native/kernel_load.c"
        subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-o", program, source], check=True)
        yield Loads(program, Path(shm), seconds)


def compile_files(directory: Path, nr: int | None = None) -> float:
    """
    Compile C files of the package one after the other and return the CPU seconds.

    :param directory: where the objects go
    :param nr: the number of files, or None for all
    """
    sources = sorted(path for path in NATIVE.rglob("*.c") if not path.name.endswith(".bpf.c"))
    include = Path(_python_include())
    options = ["-O2", "-std=gnu11", "-DCONFIG_PAGE_OWNER=1", f"-I{NATIVE}", f"-I{include}"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for source in sources[:nr]:
        subprocess.run(
            ["gcc", *options, "-c", source, "-o", directory / "out.o"],
            check=True,
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _python_include() -> str:
    import sysconfig  # noqa: PLC0415 - slow to import

    return sysconfig.get_path("include")


class Run(NamedTuple):
    """A run with something on, and the mean of its two neighbours with everything off."""

    on: float
    off: float


class Comparison(NamedTuple):
    """Alternating runs: off, one, off, another, off..."""

    off: Sequence[float]
    runs: Mapping[str, Sequence[Run]]

    def added(self, name: str) -> float:
        """Return the median of the added cost."""
        return statistics.median(run.on - run.off for run in self.runs[name])

    def ratio(self, name: str) -> float:
        """Return the median of the ratio to off."""
        return statistics.median(run.on / run.off for run in self.runs[name])

    def describe(self, name: str, unit: str) -> str:
        """Describe the measurement: the middle half of the differences."""
        values = [run.on - run.off for run in self.runs[name]]
        low, _, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
        return (
            f"{name}: {self.added(name):+.4g} {unit} (quartiles {low:.4g}, {high:.4g}), "
            f"{self.ratio(name):.3f} times off; {len(values)} runs"
        )


def against_off(
    rounds: int, off: Callable[[], float], runs: Mapping[str, Callable[[], float]]
) -> Comparison:
    """
    Measure each between two runs with everything off.

    Every other round runs in reverse order. A first run of each warms up and is not counted.
    """
    for run in (off, *runs.values()):
        run()
    last = off()
    offs: list[float] = [last]
    results: dict[str, list[Run]] = {name: [] for name in runs}
    for number in range(rounds):
        for name in list(runs) if number % 2 == 0 else reversed(list(runs)):
            value = runs[name]()
            following = off()
            results[name].append(Run(value, (last + following) / 2))
            offs.append(following)
            last = following
    return Comparison(offs, results)
