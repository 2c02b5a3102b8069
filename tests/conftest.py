"""What tests share: what this machine can do, mounted pools, an ordinary user.

A test says what it needs by a mark, ``@pytest.mark.require("fuse", "root")``, or by a fixture
that needs it. Without it the test is skipped, with the reason in a sentence; if the environment
variable PAGEOWNERFS_REQUIRE (a comma list of features) names it, the test fails instead.
"""

from __future__ import annotations

import ctypes.util
import functools
import importlib.util
import itertools
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mounts import Mount, run_pageownerfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SHM = Path("/dev/shm")
ORDINARY_USER = "nobody"


# ---- features: each returns why it is not there, or None ----


def fuse_missing() -> str | None:
    """FUSE: the device, libfuse 2 (or 3, for mfusepy), a Python binding, fusermount."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse is not there or not open to this user."
    if not (shutil.which("fusermount") or shutil.which("fusermount3")):
        return "fusermount is not on PATH (package fuse3)."
    if importlib.util.find_spec("fuse") and ctypes.util.find_library("fuse"):
        return None
    if importlib.util.find_spec("mfusepy"):
        return None
    return "fusepy or libfuse.so.2 is not installed."


def root_missing() -> str | None:
    """The tests run as root."""
    return None if os.geteuid() == 0 else "The tests don't run as root."


def shm_missing() -> str | None:
    """/dev/shm takes a few pools."""
    if not os.access(SHM, os.W_OK):
        return "/dev/shm is not writable."
    if shutil.disk_usage(SHM).free < 512 << 20:
        return "/dev/shm has less than 512 MiB free."
    return None


def page_owner_sort_missing() -> str | None:
    """The kernel's page_owner_sort is built."""
    if find_page_owner_sort() is None:
        return "The kernel's page_owner_sort is not built: run scripts/dev/build-page-owner-sort."
    return None


def page_owner_sort_6_1_missing() -> str | None:
    """The kernel's page_owner_sort of Linux 6.1 is built, which has options of its own."""
    if page_owner_sort_cache("6.1").exists():
        return None
    return (
        "That of Linux 6.1 is not built: run scripts/dev/build-page-owner-sort 6.1, where the "
        "distribution has linux-source-6.1."
    )


def user_missing() -> str | None:
    """Root can run programs as an ordinary user, who can mount."""
    if os.geteuid() != 0:
        return "Only root can run programs as another user."
    setpriv, fusermount = shutil.which("setpriv"), shutil.which("fusermount")
    if setpriv is None or fusermount is None:
        return "setpriv or fusermount is not on PATH (packages util-linux, fuse3)."
    if not Path(fusermount).stat().st_mode & stat.S_ISUID:
        return "fusermount is not setuid root, so that an ordinary user can't mount."
    if not Path("/etc/mtab").exists():
        return "/etc/mtab is not there, without which an ordinary user can't unmount."
    command = [*as_user_prefix(), base_python(), "-c", "import ctypes"]
    if subprocess.run(command, cwd="/", capture_output=True, check=False).returncode:
        return f"The user {ORDINARY_USER} can't run {base_python()}."
    return None


def tmpfs_missing() -> str | None:
    """Root may mount a tmpfs."""
    if os.geteuid() != 0:
        return "Only root can mount a tmpfs."
    with tempfile.TemporaryDirectory(prefix="pageownerfs-tmpfs-") as path:
        mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", path]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            return "Mounting a tmpfs is not permitted here."
        subprocess.run(["umount", path], check=True)
    return None


def busybox_missing() -> str | None:
    """The shell and tools with which the kernel's file was tried."""
    return None if shutil.which("busybox") else "busybox is not on PATH (package busybox)."


def unshare_missing() -> str | None:
    """Root may make a mount namespace."""
    if os.geteuid() != 0:
        return "Only root can make a mount namespace."
    done = subprocess.run(["unshare", "-m", "true"], capture_output=True, text=True, check=False)
    return f"A mount namespace can't be made: {done.stderr.strip()}." if done.returncode else None


def bpf_missing() -> str | None:
    """The kernel source can be mounted: root, libbpf, the BPF programs, a fitting kernel."""
    from pageownerfs.errors import MountError
    from pageownerfs.sources.kernel.checks import check_all, rehearse
    from pageownerfs.sources.pid_ns import pid_namespace

    if not pid_namespace().is_initial:
        return "The tests run in a PID namespace; the kernel source has the machine's pids."
    try:
        check_all()
        rehearse()
    except (MountError, OSError) as error:
        return f"{error}."
    return None


FEATURES: dict[str, Callable[[], str | None]] = {
    "fuse": functools.cache(fuse_missing),
    "root": functools.cache(root_missing),
    "shm": functools.cache(shm_missing),
    "page_owner_sort": functools.cache(page_owner_sort_missing),
    "page_owner_sort_6_1": functools.cache(page_owner_sort_6_1_missing),
    "user": functools.cache(user_missing),
    "tmpfs": functools.cache(tmpfs_missing),
    "busybox": functools.cache(busybox_missing),
    "unshare": functools.cache(unshare_missing),
    "bpf": functools.cache(bpf_missing),
}


def required_features() -> set[str]:
    """Features that PAGEOWNERFS_REQUIRE names."""
    names = os.environ.get("PAGEOWNERFS_REQUIRE", "").split(",")
    return {name.strip() for name in names} - {""}


def require_feature(name: str) -> None:
    """Go on if the feature is there; else skip the test, or fail it if the feature is required."""
    reason = FEATURES[name]()
    if reason is None:
        return
    if name in required_features():
        pytest.fail(f"PAGEOWNERFS_REQUIRE names {name}. {reason}", pytrace=False)
    pytest.skip(reason)


def pytest_configure() -> None:
    """
    Refuse a PAGEOWNERFS_REQUIRE that would require nothing because of a misspelt name.

    And take Ctrl-C, which a shell's background jobs ignore, and with them all that they start.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    unknown = required_features() - FEATURES.keys()
    if unknown:
        msg = f"PAGEOWNERFS_REQUIRE: unknown {sorted(unknown)}; the features are {list(FEATURES)}"
        raise pytest.UsageError(msg)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Look at the ``require`` marks of a test before its fixtures are made."""
    for mark in item.iter_markers("require"):
        for name in mark.args:
            require_feature(name)


@pytest.fixture(scope="session")
def require() -> Callable[[str], None]:
    """Function for a test that learns only while it runs what it needs: ``require("tmpfs")``."""
    return require_feature


# ---- programs ----


def find_page_owner_sort() -> Path | None:
    """Find the kernel's tool: PAGEOWNERFS_PAGE_OWNER_SORT, or what the build script left."""
    named = os.environ.get("PAGEOWNERFS_PAGE_OWNER_SORT")
    if named:
        return Path(named) if os.access(named, os.X_OK) else None
    preferred = page_owner_sort_cache("6.12")
    if preferred.exists():
        return preferred
    return next(iter(sorted(preferred.parent.glob("page_owner_sort-*"), reverse=True)), None)


def page_owner_sort_cache(version: str) -> Path:
    """Path at which scripts/dev/build-page-owner-sort leaves the tool of a version."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "pageownerfs" / f"page_owner_sort-{version}"


@pytest.fixture(scope="session")
def page_owner_sort() -> Path:
    """Path of the kernel's own page_owner_sort."""
    require_feature("page_owner_sort")
    path = find_page_owner_sort()
    assert path is not None
    return path


@pytest.fixture(scope="session")
def page_owner_sort_6_1() -> Path:
    """Path of that of Linux 6.1."""
    require_feature("page_owner_sort_6_1")
    return page_owner_sort_cache("6.1")


@pytest.fixture(scope="session")
def pageownerfs() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Function that runs the command: ``pageownerfs("status", "--json", path)``."""
    return run_pageownerfs


@pytest.fixture
def mount_pool(tmp_path: Path) -> Iterator[Callable[..., Mount]]:
    """Give a function that mounts pools, each on its own directory.

    ``pool = mount_pool("page_owner=on", "size=64M")``; more parameters are ``Mount``'s, and
    ``path`` mounts on another directory. At the end of the test each is unmounted.
    """
    require_feature("fuse")
    require_feature("shm")
    numbers = itertools.count()

    with ExitStack() as stack:

        def mount(*options: str, path: Path | None = None, **kwargs: Any) -> Mount:
            if path is None:
                path = tmp_path / f"mnt{next(numbers)}"
                path.mkdir()
            return stack.enter_context(Mount("pool", path, *options, **kwargs))

        yield mount


# ---- an ordinary user ----


def base_python() -> str:
    """Return the interpreter behind the virtual environment, which every user may run."""
    return str(Path(getattr(sys, "_base_executable", sys.executable)).resolve())


def as_user_prefix() -> list[str]:
    """Return the start of a command line that runs the rest as the ordinary user."""
    user = ["setpriv", f"--reuid={ORDINARY_USER}", "--regid=nogroup", "--clear-groups"]
    return [*user, "env", "-u", "XDG_STATE_HOME", "-u", "XDG_RUNTIME_DIR"]


@dataclass(frozen=True)
class OrdinaryUser:
    """How a test of root runs programs as somebody else."""

    directory: Path
    """The user's home, empty; mount points can be made there."""
    python: Sequence[str]
    """Start of a command line: Python as the user, with the package and what it needs."""

    @property
    def pageownerfs(self) -> Sequence[str]:
        """Start of a command line: the program, as the user."""
        return [*self.python, "-m", "pageownerfs"]


@pytest.fixture
def ordinary_user() -> Iterator[OrdinaryUser]:
    """Let the ordinary user run the package and open /dev/fuse, and undo that afterwards.

    The checkout may be in a directory that only root can enter, so the package is copied.
    """
    require_feature("user")
    require_feature("fuse")
    device = Path("/dev/fuse")
    mode = stat.S_IMODE(device.stat().st_mode)
    top = Path(tempfile.mkdtemp(prefix="pageownerfs-user-"))
    try:
        top.chmod(0o755)
        for name in ("pageownerfs", "psutil", "fuse", "mfusepy"):
            spec = importlib.util.find_spec(name)
            if spec is None or spec.origin is None:
                continue
            origin = Path(spec.origin)
            if origin.name == "__init__.py":
                skip = shutil.ignore_patterns("__pycache__")
                shutil.copytree(origin.parent, top / "lib" / name, ignore=skip)
            else:
                (top / "lib").mkdir(exist_ok=True)
                shutil.copy(origin, top / "lib")
        subprocess.run(["chmod", "-R", "a+rX", top / "lib"], check=True)
        home = top / "home"
        home.mkdir()
        shutil.chown(home, ORDINARY_USER, "nogroup")
        device.chmod(0o666)
        variables = [f"HOME={home}", f"PYTHONPATH={top / 'lib'}"]
        yield OrdinaryUser(home, [*as_user_prefix(), *variables, base_python()])
    finally:
        device.chmod(mode)
        shutil.rmtree(top, ignore_errors=True)
