"""-o cgroup=PATH: only tasks of a cgroup and of those below it are tracked."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from mounts import run_pageownerfs

from pageownerfs.mountinfo import read_mountinfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kernel_mount import KernelMount
    from kernel_process import Process

pytestmark = [pytest.mark.require("fuse", "root", "bpf", "cgroup2"), pytest.mark.slow]

NR = 500


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """Make a cgroup, and one below it, ``below``."""
    top = next(Path(m.mountpoint) for m in read_mountinfo() if m.fstype == "cgroup2")
    made = top / f"pageownerfs-{os.getpid()}"
    (made / "below").mkdir(parents=True)
    yield made
    for path in (made / "below", made):
        if path.exists():
            path.rmdir()


@pytest.fixture
def start_in(start: Callable[[], Process]) -> Iterator[Callable[[Path], Process]]:
    """Return a function that starts a process in a cgroup; it leaves it at the end."""
    with ExitStack() as stack:

        def move(path: Path) -> Process:
            process = start()
            (path / "cgroup.procs").write_text(str(process.pid))
            stack.callback(process.end)
            return process

        yield move


def name_of(process: Process) -> str:
    """Return the path of the process's cgroup, as /proc has it."""
    lines = Path(f"/proc/{process.pid}/cgroup").read_text().splitlines()
    return next(line.removeprefix("0::") for line in lines if line.startswith("0::"))


def test_cgroup(
    cgroup: Path,
    mount_kernel: Callable[..., KernelMount],
    start: Callable[[], Process],
    start_in: Callable[[Path], Process],
) -> None:
    """Tasks in the cgroup and below it are tracked, others are not."""
    inside, below, outside = start_in(cgroup), start_in(cgroup / "below"), start()
    name = name_of(inside)
    mount = mount_kernel("page_owner=on", f"cgroup={name}")
    wanted: dict[int, int] = {}
    for process in (inside, below, outside):
        pfns = process.pfns(process.address("anon", NR), NR)
        wanted |= dict.fromkeys(pfns, process.pid) if process is not outside else {}
    records = {record.pfn: record.tgid for record in mount.records()}
    assert wanted.items() <= records.items()
    assert set(records.values()) == {inside.pid, below.pid}
    status = mount.status()
    assert status["filter"] == {"cgroup": name}
    assert status["stats"]["alloc_filtered"] > 0
    assert status["stats"]["pages_early"] == 0


def test_by_directory_and_with_others(
    cgroup: Path, mount_kernel: Callable[..., KernelMount], start_in: Callable[[Path], Process]
) -> None:
    """The cgroup can be given by its directory; all filters must match."""
    process, other = start_in(cgroup / "below"), start_in(cgroup)
    process.name(b"both")
    mount = mount_kernel("page_owner=on", f"cgroup={cgroup / 'below'},comm=b*,order=0")
    pfns = process.pfns(process.address("anon", NR), NR)
    other.name(b"both")
    other.address("anon", NR)
    process.name(b"else")
    process.address("anon", NR)
    records = {record.pfn: (record.tgid, record.comm) for record in mount.records()}
    assert dict.fromkeys(pfns, (process.pid, b"both")).items() <= records.items()
    assert set(records.values()) == {(process.pid, b"both")}


def test_joining_and_leaving(
    cgroup: Path, mount_kernel: Callable[..., KernelMount], start: Callable[[], Process]
) -> None:
    """What counts is the cgroup of the task at the time of the allocation."""
    process = start()
    home = Path(cgroup.parent, name_of(process).lstrip("/"), "cgroup.procs")
    mount = mount_kernel("page_owner=on", f"cgroup={cgroup}")
    before = process.pfns(process.address("anon", NR), NR)
    (cgroup / "cgroup.procs").write_text(str(process.pid))
    during = process.pfns(process.address("anon", NR), NR)
    home.write_text(str(process.pid))
    after = process.pfns(process.address("anon", NR), NR)
    records = {record.pfn for record in mount.records()}
    assert set(during) <= records
    assert not records & {*before, *after}


def test_removed(
    cgroup: Path, mount_kernel: Callable[..., KernelMount], start_in: Callable[[Path], Process]
) -> None:
    """A cgroup may be removed while it is tracked; a new one of that name is another one."""
    mount = mount_kernel("page_owner=on", f"cgroup={cgroup / 'below'}")
    (cgroup / "below").rmdir()
    (cgroup / "below").mkdir()
    process = start_in(cgroup / "below")
    process.address("anon", NR)
    assert list(mount.records()) == []


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/no/such", "/no/such does not exist: use the path after 0:: in /proc/PID/cgroup"),
        ("/sys/kernel", "/sys/kernel does not exist: use the path after 0::"),
        ("/cgroup.procs", "/cgroup.procs (Not a directory): use the path after 0::"),
    ],
)
def test_no_such_cgroup(tmp_path: Path, path: str, message: str) -> None:
    """A path that is no cgroup is an error that says where it was looked for."""
    done = run_pageownerfs("kernel", tmp_path, "-o", f"page_owner=on,cgroup={path}")
    assert done.returncode == 3
    assert f"pageownerfs: cgroup={path}: the cgroup /" in done.stderr
    assert message in done.stderr
    assert not tmp_path.is_mount()


@pytest.mark.parametrize("path", ["relative", "", "/../other"])
def test_no_path(tmp_path: Path, path: str) -> None:
    """A path must be one that can be looked up below the root of this cgroup namespace."""
    done = run_pageownerfs("kernel", tmp_path, "-o", f"cgroup={path}")
    assert done.returncode == 2
    assert done.stderr.startswith(f"pageownerfs: -o cgroup: {path!r} ")


def test_later(
    cgroup: Path, mount_kernel: Callable[..., KernelMount], start_in: Callable[[Path], Process]
) -> None:
    """The cgroup need not exist before tracking starts; until then the switch fails."""
    mount = mount_kernel(f"cgroup={cgroup / 'later'}")
    with pytest.raises(OSError, match="not supported"):
        (mount.path / "page_owner_on").write_text("1")
    assert (mount.path / "page_owner_on").read_text() == "0\n"
    (cgroup / "later").mkdir()
    process = start_in(cgroup / "later")
    (mount.path / "page_owner_on").write_text("1")
    pfns = process.pfns(process.address("anon", NR), NR)
    assert set(pfns) <= {record.pfn for record in mount.records()}
    process.end()
    (cgroup / "later").rmdir()


def test_cgroup_namespace(tmp_path: Path, cgroup: Path) -> None:
    """In a cgroup namespace, as in a container, / is the namespace's own cgroup."""
    script = """
        echo $$ > "$1/cgroup.procs"
        exec unshare -Cm sh -ec '
            mount -t cgroup2 none "$2"
            head -1 /proc/self/cgroup
            "$4" -m pageownerfs kernel "$1" -o page_owner=on,cgroup=/below
            (read pid rest </proc/self/stat; echo $pid > "$2/below/cgroup.procs"
             exec head -c 4M /dev/zero >"$3")
            grep -o "tgid [0-9]* (.*)," "$1/page_owner" | cut -d"(" -f2 | sort -u
            "$4" -m pageownerfs umount "$1"
        ' sh "$2" "$3" "$4" "$5"
    """
    places = [tmp_path / "mnt", tmp_path / "cgroups"]
    for place in places:
        place.mkdir()
    done = subprocess.run(
        ["sh", "-ec", script, "sh", cgroup, *places, tmp_path / "file", sys.executable],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "head)," in done.stdout
    assert "pageownerfs" not in done.stdout
