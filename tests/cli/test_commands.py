"""The commands: their output, their errors and their exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pageownerfs import __version__
from pageownerfs.cli import COMMANDS
from pageownerfs.cli.doctor import FAIL, OK, WARN, check_fuse_conf
from pageownerfs.sources.kernel.doctor import check_kernel_page_owner as check_kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[..., subprocess.CompletedProcess[str]]


def test_version_and_help(pageownerfs: Command) -> None:
    """--version prints the version, and --help of each verb says what the verb does."""
    assert pageownerfs("--version").stdout == f"pageownerfs {__version__}\n"
    text = pageownerfs("--help").stdout
    for verb in COMMANDS:
        assert f"    {verb}" in text
        done = pageownerfs(verb, "--help")
        assert done.returncode == 0
        assert done.stdout.startswith(f"usage: pageownerfs {verb} ")


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        pytest.param([], 2, "required: VERB", id="nothing"),
        pytest.param(["fool", "{tmp}"], 2, "unknown source or verb 'fool'", id="source"),
        pytest.param(
            ["pool", "{tmp}", "-o", "a=b"],
            2,
            "option -o a for source 'pool'; known options: ",
            id="option",
        ),
        pytest.param(
            ["pool", "{tmp}/x"], 3, "no such directory; create it with: mkdir", id="missing"
        ),
        pytest.param(["pool", "/proc"], 3, "already a mount point (proc)", id="busy"),
        pytest.param(["pool", "/etc/passwd"], 3, "not a directory", id="file"),
        pytest.param(["pool", "{full}"], 3, "not empty (1 entries)", id="not empty"),
        pytest.param(["umount", "{tmp}"], 4, "no pageownerfs is mounted here", id="umount"),
        pytest.param(["umount", "/proc"], 4, "no pageownerfs is mounted here", id="umount proc"),
        pytest.param(["status", "{tmp}"], 4, "mount a pool with: pageownerfs pool", id="status"),
        pytest.param(["status", "{tmp}/x"], 4, "No such file", id="status missing"),
        pytest.param(["alloc", "{tmp}"], 4, "no pageownerfs is mounted here", id="alloc"),
        pytest.param(["alloc", "{tmp}", "--gfp", "GFP_X"], 2, "unknown: 'GFP_X'", id="gfp"),
        pytest.param(["alloc", "{tmp}", "--order", "11"], 2, "from 0 to 10", id="order"),
        pytest.param(["alloc", "{tmp}", "--count", "0"], 2, "of 1 or more", id="count"),
        pytest.param(["alloc", "{tmp}", "--hold", "nan"], 2, "not a number of s", id="hold"),
    ],
)
def test_errors(
    pageownerfs: Command, tmp_path: Path, args: list[str], code: int, message: str
) -> None:
    """Each error is one line that says what to do, and has its own exit code."""
    tmp, full = tmp_path / "empty", tmp_path / "full"
    tmp.mkdir()
    full.mkdir()
    (full / "file").touch()
    done = pageownerfs(*(arg.format(tmp=tmp, full=full) for arg in args))
    assert done.returncode == code
    assert message in done.stderr.splitlines()[-1]
    assert done.stdout == ""


def test_impossible_size(pageownerfs: Command, tmp_path: Path) -> None:
    """An error of the background process reaches the shell with its exit code."""
    before = set(Path("/dev/shm").iterdir())
    done = pageownerfs("pool", tmp_path, "-o", "size=4K")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "cannot create a pool with these options" in done.stderr
    assert set(Path("/dev/shm").iterdir()) <= before


@pytest.mark.require("fuse", "shm")
def test_doctor(pageownerfs: Command) -> None:
    """``doctor`` returns 0 if a pool can be mounted, and has advice for each problem."""
    done = pageownerfs("doctor", "--json")
    assert done.returncode == 0
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert checks["libfuse"]["state"] == OK
    assert checks["/dev/fuse"]["state"] == OK
    assert all(check["advice"] for check in checks.values() if check["state"] != OK)
    # A pool does not need the requirements of the kernel source.
    assert checks["kernel source"]["state"] in {OK, WARN}
    assert pageownerfs("doctor").stdout.count("\n") >= len(checks)


def test_doctor_without_libfuse(pageownerfs: Command, tmp_path: Path) -> None:
    """Without a FUSE binding, doctor says so and returns 1, and a mount fails the same way."""
    for name in ("fuse", "mfusepy"):
        (tmp_path / f"{name}.py").write_text("raise OSError('Unable to find libfuse')")
    root = Path(__file__).resolve().parents[2]
    env = os.environ | {"PYTHONPATH": f"{tmp_path}:{root}"}
    done = pageownerfs("doctor", "--json", env=env)
    assert done.returncode == 1
    assert json.loads(done.stdout)[0]["state"] == FAIL
    target = tmp_path / "mnt"
    target.mkdir()
    if os.access("/dev/fuse", os.W_OK):
        done = pageownerfs("pool", target, env=env)
        assert done.returncode == 3
        assert "install libfuse2" in done.stderr


def test_doctor_reads_fuse_conf(tmp_path: Path) -> None:
    """Only an uncommented line counts."""
    (tmp_path / "etc").mkdir()
    assert check_fuse_conf(tmp_path).state == WARN
    (tmp_path / "etc/fuse.conf").write_text("#user_allow_other\n")
    assert check_fuse_conf(tmp_path).state == WARN
    (tmp_path / "etc/fuse.conf").write_text("# x\nuser_allow_other\n")
    assert check_fuse_conf(tmp_path).state == OK


def test_doctor_reads_the_kernel(tmp_path: Path) -> None:
    """Configuration, boot line and debugfs together explain why page_owner is missing."""
    assert "configuration is not readable" in check_kernel(tmp_path).text
    (tmp_path / "boot").mkdir()
    config = tmp_path / f"boot/config-{os.uname().release}"
    config.write_text("# CONFIG_PAGE_OWNER is not set\n")
    assert "is not set" in check_kernel(tmp_path).text
    config.write_text("CONFIG_PAGE_OWNER=y\n")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cmdline").write_text("quiet\n")
    assert "boot with page_owner=on" in check_kernel(tmp_path).advice
    (tmp_path / "proc/cmdline").write_text("quiet page_owner=on\n")
    assert "mount -t debugfs" in check_kernel(tmp_path).advice
    (tmp_path / "sys/kernel/debug").mkdir(parents=True)
    (tmp_path / "sys/kernel/debug/page_owner").touch()
    assert check_kernel(tmp_path).state == OK


@pytest.mark.require("fuse", "shm")
class TestAlloc:
    """``pageownerfs alloc``."""

    @pytest.fixture
    def pool(self, mount_pool: Callable[..., Any]) -> Any:
        """Mount a pool that tracks."""
        return mount_pool("page_owner=on", "size=16M")

    def test_frees_at_once(self, pool: Any, pageownerfs: Command) -> None:
        """By default all pages are freed at once."""
        before = pool.status()["pages_allocated"]
        done = pageownerfs("alloc", pool.path, "--order", "2", "--count", "3")
        assert done.returncode == 0
        pfns = [int(line, 16) for line in done.stdout.splitlines()]
        assert len(set(pfns)) == 3
        assert all(pfn % 4 == 0 for pfn in pfns)
        assert pool.status()["pages_allocated"] == before

    def test_leak(self, pool: Any, pageownerfs: Command) -> None:
        """A leaked block stays in page_owner, with its order, mask, pid and comm."""
        done = pageownerfs(
            *("alloc", pool.path, "--order", "2", "--leak", "--gfp", "GFP_KERNEL|__GFP_COMP")
        )
        pfn = done.stdout.strip()
        records = (pool.path / "page_owner").read_text().split("\n\n")
        (record,) = [record for record in records if f"PFN {pfn} " in record]
        assert record.startswith("Page allocated via order 2, mask 0x40cc0(GFP_KERNEL|__GFP_COMP)")
        assert "run+0x" in record
        assert "[pageownerfs.cli.alloc]" in record

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_hold(self, pool: Any, number: int) -> None:
        """With --hold the pages stay until a signal arrives, and are then freed."""
        before = pool.status()["pages_allocated"]
        line = [sys.executable, "-m", "pageownerfs", "alloc", pool.path, "--hold", "60"]
        with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline().startswith("0x")
            status = pool.status()
            assert status["pages_allocated"] == before + 1
            assert [client["pid"] for client in status["clients"]] == [holder.pid]
            holder.send_signal(number)
            assert holder.wait(10) == 0
        assert pool.status()["pages_allocated"] == before

    def test_hold_ends(self, pool: Any, pageownerfs: Command) -> None:
        """The pages are freed after SECONDS."""
        start = time.monotonic()
        assert pageownerfs("alloc", pool.path, "--hold", "0.3").returncode == 0
        assert time.monotonic() - start >= 0.3

    def test_out_of_memory(self, pool: Any, pageownerfs: Command) -> None:
        """The error names the order, the mask and the free pages, and earlier pages are freed."""
        before = pool.status()["pages_allocated"]
        done = pageownerfs("alloc", pool.path, "--order", "10", "--count", "100")
        assert done.returncode == 7
        assert "page allocation failure: order:10, mode:0xcc0(GFP_KERNEL); free: " in done.stderr
        assert pool.status()["pages_allocated"] == before


NEED_OUTPUT = ("status", "doctor", "--help", "--version")


@pytest.mark.parametrize("redirection", [">&-", ">/dev/full"])
@pytest.mark.parametrize("args", [*NEED_OUTPUT, "status --json", "mount --help"])
def test_output_that_can_not_be_written(args: str, redirection: str) -> None:
    """Output that cannot be written is a one-line error."""
    line = f"exec {sys.executable} -m pageownerfs {args} {redirection}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
    reason = "Bad file descriptor" if "&" in redirection else "No space left on device"
    assert done.returncode == 1
    assert done.stderr == f"pageownerfs: standard output: {reason}\n"


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
@pytest.mark.parametrize(("args", "code"), [("fool", 2), ("fool /", 2), ("umount /proc", 4)])
def test_errors_that_can_not_be_written(args: str, code: int, redirection: str) -> None:
    """If errors cannot be written, the exit code stays the same and nothing goes elsewhere."""
    line = f"exec {sys.executable} -m pageownerfs {args} {redirection}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


@pytest.mark.require("fuse", "shm")
@pytest.mark.parametrize(
    "redirection", [">&-", "2>&-", "<&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full"]
)
def test_mount_without_streams(pageownerfs: Command, tmp_path: Path, redirection: str) -> None:
    """A mount needs no standard streams, and neither does any silent command."""
    program = f"{sys.executable} -m pageownerfs"
    line = f"{program} pool {tmp_path} -o size=16M {redirection}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
    try:
        assert "Traceback" not in done.stderr
        assert done.returncode == 0
        status = json.loads(pageownerfs("status", "--json", tmp_path).stdout)
        # The daemon's own streams are the usual ones.
        for number in range(3):
            stream = Path(f"/proc/{status['pid']}/fd/{number}")
            assert stream.readlink() == Path(os.devnull)
        leaking = f"{program} alloc --leak --count 5000 {tmp_path}"
        for broken in (">&-", ">/dev/full"):
            shell = ["sh", "-c", f"{leaking} {broken}"]
            done = subprocess.run(shell, capture_output=True, text=True, check=False)
            assert done.returncode == 1
            assert done.stderr.startswith("pageownerfs: standard output: ")
        # The PFNs could not be printed, so the pages are not left allocated.
        status = json.loads(pageownerfs("status", "--json", tmp_path).stdout)
        assert status["pages_allocated"] == 0
    finally:
        line = f"{program} umount {tmp_path} {redirection}"
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.require("unshare")
def test_without_proc(tmp_path: Path) -> None:
    """Without /proc, doctor says so and no command ends in a traceback."""
    program = f"{sys.executable} -m pageownerfs"
    for args, code in (("doctor", None), ("status", 3), (f"umount {tmp_path}", 3)):
        line = f"mount -t tmpfs none /proc && exec {program} {args}"
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", line], capture_output=True, text=True, check=False
        )
        assert "Traceback" not in done.stderr
        assert "mount -t proc proc /proc" in done.stdout + done.stderr
        assert code is None or done.returncode == code
