"""Mounts of any source: made, queried, removed, and checked to leave nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import psutil

from pageownerfs.client import XATTR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MODULE = (sys.executable, "-m", "pageownerfs")
TIMEOUT = 120.0  # seconds after which a test gives up; nothing takes this long on any machine
ROOT = Path(__file__).resolve().parent.parent.parent


def wait_until(condition: Callable[[], bool], timeout: float = TIMEOUT) -> bool:
    """Poll the condition until it holds; return whether it did in time."""
    deadline = time.monotonic() + timeout
    while not (held := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return held


def is_mounted(path: Path) -> bool:
    """Return whether /proc/self/mounts has the path; ismount() fails if the daemon is dead."""
    lines = Path("/proc/self/mounts").read_text(errors="surrogateescape").splitlines()
    return str(path) in {line.split(" ")[1] for line in lines}


def process_lives(pid: int) -> bool:
    """Return whether the process runs; a zombie does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def run_pageownerfs(
    *args: str | Path, command: Sequence[str] = MODULE, **kwargs: Any
) -> subprocess.CompletedProcess[str]:
    """Run ``pageownerfs ARGS`` with its text output captured; the caller checks the result."""
    kwargs = {"capture_output": True, "stdin": subprocess.DEVNULL, "timeout": TIMEOUT} | kwargs
    line = [*command, *map(str, args)]
    done = subprocess.run(line, text=True, errors="surrogateescape", check=False, **kwargs)
    assert "Traceback" not in (done.stderr or ""), done.stderr
    return done


def run_mount(
    source: str, path: Path, *args: str, **kwargs: Any
) -> subprocess.CompletedProcess[str]:
    """Run ``pageownerfs SOURCE PATH ARGS``, which may fail; all its output is in stderr."""
    # Output goes to a file: a daemon that keeps it open must not make the test wait.
    with tempfile.TemporaryFile("w+") as output:
        files: dict[str, Any] = {"capture_output": False, "stdout": output, "stderr": output}
        done = run_pageownerfs(source, path, *args, **files, **kwargs)
        output.seek(0)
        done.stderr = output.read()
    assert "Traceback" not in done.stderr, done.stderr
    return done


def status_of(path: Path) -> dict[str, Any]:
    """Return the mount's own status, which ``pageownerfs status --json`` also reads."""
    status: dict[str, Any] = json.loads(os.getxattr(path, XATTR))
    return status


def umount_lazily(path: Path) -> None:
    """Detach a mount, whoever uses it and whether or not anybody serves it."""
    lazily = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount", "-u", "-z"]
    subprocess.run([*lazily, path], check=False, capture_output=True)


class Mount:
    """
    A mount with its daemon, usable from the moment that it answers.

    As a context manager it unmounts at the end, and nothing may be left: no mount, no process, no
    shared memory.
    """

    def __init__(
        self,
        source: str,
        path: Path,
        *options: str,
        args: Sequence[str] = (),
        foreground: bool = False,
        command: Sequence[str] = MODULE,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        cwd: Path | None = None,
    ) -> None:
        """
        Mount.

        :param source: ``pool``, ``kernel``, ``dump:FILE``, ``trace:FILE``
        :param path: the mount point, a directory
        :param options: each one becomes an ``-o``
        :param args: more arguments
        :param foreground: run the daemon with ``-f``, as a child of the test
        """
        self.path = path
        self.command = command
        self.check_end = True
        """False if the daemon was killed: leftovers are then removed, not asserted."""
        self.child: subprocess.Popen[str] | None = None
        """The daemon, if it runs in the foreground."""
        self.messages = ""
        """The program's output; empty for a daemon in the foreground."""
        self.pid = 0
        """The daemon's process id."""
        self.shm_path: Path | None = None
        """A pool's shared-memory file under /dev/shm."""
        line = [*(word for option in options for word in ("-o", option)), *args]
        try:
            if foreground:
                self._start([*command, source, str(path), *line, "-f"], stdin=stdin, cwd=cwd)
            else:
                done = run_mount(source, path, *line, command=command, stdin=stdin, cwd=cwd)
                assert done.returncode == 0, done.stderr
                self.messages = done.stderr
            self._read_status()
        except BaseException:
            self.remove()
            raise

    def _start(self, line: list[str], **kwargs: Any) -> None:
        # Closed by communicate() in assert_ended() or remove().
        self.child = child = subprocess.Popen(line, stderr=subprocess.PIPE, text=True, **kwargs)
        wait_until(lambda: is_mounted(self.path) or child.poll() is not None)
        assert child.poll() is None, child.communicate()[1]

    def _read_status(self) -> None:
        try:
            status = status_of(self.path)
        except PermissionError:  # it belongs to another user
            status = self.status()
        self.pid = status["pid"]
        self.shm_path = Path(status["shm_path"]) if "shm_path" in status else None

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        """Unmount; an earlier error takes precedence over leftovers."""
        if kind is None:
            self.end()
        else:
            self.remove()

    @property
    def mounted(self) -> bool:
        """Return whether it is still mounted."""
        return is_mounted(self.path)

    def status(self) -> dict[str, Any]:
        """Return the output of ``pageownerfs status --json``."""
        done = run_pageownerfs("status", "--json", self.path, command=self.command)
        assert done.returncode == 0, done.stderr
        status: dict[str, Any] = json.loads(done.stdout)
        return status

    def stats(self) -> dict[str, int]:
        """Return the file ``stats``."""
        lines = (self.path / "stats").read_text().splitlines()
        return {name: int(value) for name, value in (line.split(" ") for line in lines)}

    def umount(self) -> None:
        """Unmount with ``pageownerfs umount``, and assert that it worked."""
        done = run_pageownerfs("umount", self.path, command=self.command)
        assert done.returncode == 0, done.stderr

    def assert_ended(self) -> None:
        """Assert that the daemon ends and releases what it holds."""
        stderr = self.child.communicate(timeout=TIMEOUT)[1] if self.child else ""
        assert wait_until(lambda: not process_lives(self.pid)), (
            f"the daemon {self.pid} is still running"
        )
        assert "Traceback" not in stderr, stderr

    def assert_gone(self) -> None:
        """Assert that no mount, no process and no shared memory is left."""
        self.assert_ended()
        assert not self.mounted, f"{self.path} is still mounted"
        assert self.shm_path is None or not self.shm_path.exists(), f"{self.shm_path} still exists"

    def end(self) -> None:
        """Unmount if necessary, and assert that nothing is left."""
        try:
            if self.check_end:
                if self.mounted:
                    # The same as `pageownerfs umount`, but faster.
                    subprocess.run(["fusermount", "-u", self.path], check=True)
                self.assert_gone()
        finally:
            self.remove()

    def remove(self) -> None:
        """Remove leftovers by force; the next tests need a clean machine."""
        if self.mounted:
            umount_lazily(self.path)
        if self.pid and process_lives(self.pid):
            psutil.Process(self.pid).kill()
        if self.child:
            self.child.kill()
            self.child.communicate()
        if self.shm_path is not None:
            self.shm_path.unlink(missing_ok=True)


@contextmanager
def mounted(source: str, *options: str, **kwargs: Any) -> Iterator[Path]:
    """Mount a source in the background on its own directory, like ``Mount``."""
    with tempfile.TemporaryDirectory(prefix="pageownerfs-mount-") as top:
        path = Path(top).resolve() / "mnt"
        path.mkdir()
        with Mount(source, path, *options, **kwargs):
            yield path


@contextmanager
def served(script: str, path: Path, *args: str | Path) -> Iterator[None]:
    """Let ``tests/lib/SCRIPT PATH ARGS`` serve a mount; it ends when it is unmounted."""
    # A script finds modules of its folder, but may find the package only in the checkout.
    path_list = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path_list))}
    line = [sys.executable, ROOT / "tests" / "lib" / script, path, *args]
    with subprocess.Popen(line, env=env) as child:
        try:
            assert wait_until(lambda: is_mounted(path) or child.poll() is not None)
            assert child.poll() is None
            yield
            subprocess.run(["fusermount", "-u", path], check=True)
            assert child.wait(TIMEOUT) == 0
        finally:
            if child.poll() is None:
                umount_lazily(path)
                child.kill()
