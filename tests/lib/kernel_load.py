"""
A mixed load on the whole machine: compilers, short-lived memory, files, processes.

``run_load(directory, seconds)`` runs part of it in a memory cgroup, if one can be made, so that
pages are reclaimed. Each worker is a separate process; this module is also the program that the
workers run.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import mmap
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_LIB: Final = Path(__file__).resolve().parent
_ROOT: Final = _LIB.parents[1]
_PAGE: Final = 4096
_CGROUP_LIMIT: Final = 192 << 20
_FILE_BYTES: Final = 64 << 20
_CHURN_PAGES: Final = 8192
_FORK_PAGES: Final = 256
_SOURCE_FUNCTIONS: Final = 400
_WORKERS: Final = ("compile", "compile", "churn", "files", "forks")


def _compile(directory: Path) -> None:
    # A compiler whose cgroup runs out of memory is killed; that is fine.
    line = ["gcc", "-O2", "-c", "load.c", "-o", f"load-{os.getpid()}.o"]
    subprocess.run(line, cwd=directory, check=False, stderr=subprocess.DEVNULL)


def _churn(directory: Path) -> None:
    del directory
    with mmap.mmap(-1, _CHURN_PAGES * _PAGE, mmap.MAP_PRIVATE) as memory:
        for offset in range(0, len(memory), _PAGE):
            memory[offset] = 1
        memory.madvise(mmap.MADV_DONTNEED, 0, len(memory) // 2)
        for offset in range(0, len(memory), 3 * _PAGE):
            memory[offset] = 1


def _files(directory: Path) -> None:
    path = directory / f"file-{os.getpid()}"
    chunk = bytes(1 << 20)
    with path.open("wb") as file:
        for _ in range(_FILE_BYTES >> 20):
            file.write(chunk)
    with path.open("rb") as file:
        while file.read(1 << 20):
            pass
    path.unlink()


def _forks(directory: Path) -> None:
    del directory
    memory = mmap.mmap(-1, _FORK_PAGES * _PAGE, mmap.MAP_PRIVATE)
    for value in range(20):
        pid = os.fork()
        if pid == 0:
            for offset in range(0, len(memory), _PAGE):
                memory[offset] = value
            os._exit(0)
        os.waitpid(pid, 0)


_WORK: Final[dict[str, Callable[[Path], None]]] = {
    "compile": _compile,
    "churn": _churn,
    "files": _files,
    "forks": _forks,
}


def _work(kind: str, directory: Path, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        _WORK[kind](directory)


def _source() -> str:
    # Enough for a compiler to need some memory and time.
    functions = (
        f"int f{n}(int *a, int b) {{ for (int i = 0; i < b; i++) a[i] += a[b - i] * {n} + i / "
        f"(b | 1); switch (b % 7) {{ case 0: return a[0]; case 3: return f{n - 1}(a, b); }} "
        "return a[b] ^ b; }\n"
        for n in range(1, _SOURCE_FUNCTIONS)
    )
    return "int f0(int *a, int b) { return a[b]; }\n" + "".join(functions)


def _memory_controller() -> Path | None:
    """Return the directory below which memory cgroups can be made."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, path, kind, options, *_ = line.split(" ")
        if kind == "cgroup" and "memory" in options.split(","):
            return Path(path)
        if kind == "cgroup2":
            with contextlib.suppress(OSError):
                if "memory" in (Path(path) / "cgroup.subtree_control").read_text().split():
                    return Path(path)
    return None


@contextlib.contextmanager
def memory_cgroup(limit: int = _CGROUP_LIMIT) -> Iterator[Path | None]:
    """Make a cgroup with a memory limit; yield None if that is impossible."""
    top = _memory_controller()
    path = None if top is None else top / f"pageownerfs-{os.getpid()}"
    try:
        if path is not None:
            path.mkdir()
            names = ("memory.max", "memory.limit_in_bytes")
            limits = [path / name for name in names if (path / name).exists()]
            limits[0].write_text(str(limit))
    except (OSError, IndexError):
        if path is not None:
            with contextlib.suppress(OSError):
                path.rmdir()
        path = None
    try:
        yield path
    finally:
        if path is not None:
            _remove_cgroup(path)


def _remove_cgroup(path: Path) -> None:
    for attempt in itertools.count():
        try:
            path.rmdir()
        except OSError:
            if attempt == 50:
                raise
            time.sleep(0.1)
        else:
            return


def _start(
    kind: str, directory: Path, seconds: float, cgroup: Path | None
) -> subprocess.Popen[bytes]:
    line: Sequence[str] = [sys.executable, __file__, kind, str(directory), str(seconds)]
    if cgroup is not None:
        enter = f'echo $$ > "{cgroup}/cgroup.procs"; exec "$@"'
        line = ["sh", "-c", enter, "sh", *line]
    return subprocess.Popen(line)


def run_load(directory: Path, seconds: float, *, rounds: int = 1) -> dict[str, Any]:
    """
    Load the machine for some time and wait until the whole load has ended.

    :param directory: for its files; on a disk, their pages are in the page cache and get reclaimed
    :param rounds: workers of each kind, in the cgroup and outside
    :return: what was done, for a log
    """
    (directory / "load.c").write_text(_source())
    with memory_cgroup() as cgroup:
        children = [
            _start(kind, directory, seconds, place)
            for _ in range(rounds)
            for place in dict.fromkeys((None, cgroup))
            for kind in _WORKERS
        ]
        for child in children:
            child.wait()
    return {"workers": len(children), "limited": cgroup is not None}


def look_for_stale(pid: int, *options: str) -> dict[str, Any]:
    """Compare the records of the daemon ``pid`` with the pages: see kernel_stale.py."""
    paths = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, _LIB / "kernel_stale.py", str(pid), *options],
        env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def check_under_load(
    pid: int, directory: Path, seconds: float, rounds: int = 1, *, page_owner: Path
) -> dict[str, Any]:
    """
    Load the machine, then look for records of free pages.

    :param pid: the daemon
    :param page_owner: its file, opened first
    :return: ``stale_per_million`` records, and the details
    """
    load = run_load(directory, seconds, rounds=rounds)
    found = look_for_stale(pid, "--open", str(page_owner))
    found["stale_per_million"] = found["stale"] * 1e6 / max(found["allocated"], 1)
    return load | found


if __name__ == "__main__":
    _work(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
