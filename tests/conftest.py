"""Shared fixtures: what this machine can do, mounted pools, an ordinary user.

A test names its needs with a mark, ``@pytest.mark.require("fuse", "root")``, or uses a fixture
that has the mark's effect. If a need is not met, the test is skipped with a reason; if the
environment variable PAGEOWNERFS_REQUIRE (a comma-separated list) names the feature, it fails.
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
from shells import BASH_COMPLETION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SHM = Path("/dev/shm")
ORDINARY_USER = "nobody"


# ---- features: each returns the reason why it is missing, or None ----


def fuse_missing() -> str | None:
    """FUSE: the device, libfuse 2 (or 3, for mfusepy), a Python binding, fusermount."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "needs FUSE: /dev/fuse is missing, or this user may not open it"
    if not (shutil.which("fusermount") or shutil.which("fusermount3")):
        return "needs FUSE: fusermount is not on PATH (package fuse3)"
    if importlib.util.find_spec("fuse") and ctypes.util.find_library("fuse"):
        return None
    if importlib.util.find_spec("mfusepy"):
        return None
    return "needs FUSE: fusepy or libfuse.so.2 is not installed"


def root_missing() -> str | None:
    """The tests run as root."""
    return None if os.geteuid() == 0 else "needs root"


def shm_missing() -> str | None:
    """/dev/shm has room for a few pools."""
    if not os.access(SHM, os.W_OK):
        return "needs /dev/shm: it is not writable"
    if shutil.disk_usage(SHM).free < 512 << 20:
        return "needs /dev/shm: less than 512 MiB are free"
    return None


def page_owner_sort_missing() -> str | None:
    """The kernel's page_owner_sort has been built."""
    if find_page_owner_sort() is None:
        return "needs the kernel's page_owner_sort: run scripts/dev/build-page-owner-sort"
    return None


def page_owner_sort_6_1_missing() -> str | None:
    """The page_owner_sort of Linux 6.1, which has options of its own, has been built."""
    if page_owner_sort_cache("6.1").exists():
        return None
    return (
        "needs the page_owner_sort of Linux 6.1: run scripts/dev/build-page-owner-sort 6.1 (the "
        "distribution must have linux-source-6.1)"
    )


def user_missing() -> str | None:
    """Root can run programs as an ordinary user who can mount."""
    if os.geteuid() != 0:
        return "needs root: only root can run programs as another user"
    setpriv, fusermount = shutil.which("setpriv"), shutil.which("fusermount")
    if setpriv is None or fusermount is None:
        return "needs setpriv and fusermount on PATH (packages util-linux, fuse3)"
    if not Path(fusermount).stat().st_mode & stat.S_ISUID:
        return "needs a setuid fusermount: an ordinary user can't mount without it"
    if not Path("/etc/mtab").exists():
        return "needs /etc/mtab: an ordinary user can't unmount without it"
    command = [*as_user_prefix(), base_python(), "-c", "import ctypes"]
    if subprocess.run(command, cwd="/", capture_output=True, check=False).returncode:
        return f"needs {base_python()}: the user {ORDINARY_USER} can't run it"
    return None


def tmpfs_missing() -> str | None:
    """Root may mount a tmpfs."""
    if os.geteuid() != 0:
        return "needs root: only root can mount a tmpfs"
    with tempfile.TemporaryDirectory(prefix="pageownerfs-tmpfs-") as path:
        mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", path]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            return "needs tmpfs: mounting one is not permitted here"
        subprocess.run(["umount", path], check=True)
    return None


def unshare_missing() -> str | None:
    """Root may make a mount namespace."""
    if os.geteuid() != 0:
        return "needs root: only root can make a mount namespace"
    done = subprocess.run(["unshare", "-m", "true"], capture_output=True, text=True, check=False)
    return f"needs a mount namespace: {done.stderr.strip()}" if done.returncode else None


def bpf_missing() -> str | None:
    """The kernel source can be mounted: root, libbpf, the BPF programs, a suitable kernel."""
    from pageownerfs.errors import MountError
    from pageownerfs.sources.kernel.checks import check_all, rehearse
    from pageownerfs.sources.pid_ns import pid_namespace

    if not pid_namespace().is_initial:
        return "needs the machine's pids: the tests run in a PID namespace"
    try:
        check_all()
        rehearse()
    except (MountError, OSError) as error:
        return f"needs BPF: {error}"
    return None


def cgroup2_missing() -> str | None:
    """The file system of cgroup v2 is mounted, and root may make cgroups in it."""
    from pageownerfs.mountinfo import read_mountinfo

    top = next((m.mountpoint for m in read_mountinfo() if m.fstype == "cgroup2"), None)
    if top is None:
        return "needs cgroup v2: no cgroup2 file system is mounted"
    return None if os.access(top, os.W_OK) else f"needs cgroup v2: {top} is not writable"


def pip_missing() -> str | None:
    """Pip can download packages, to build a wheel and to install it with its dependencies."""
    if importlib.util.find_spec("build") is None:
        return "needs the Python package build"
    with tempfile.TemporaryDirectory(prefix="pageownerfs-pip-") as path:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", path]
        done = subprocess.run([*command, "fusepy"], capture_output=True, check=False)
        return "needs packages: pip can't download any here" if done.returncode else None


def command_missing(name: str, package: str) -> Callable[[], str | None]:
    """Make a check that a command is on PATH."""

    def missing() -> str | None:
        return None if shutil.which(name) else f"needs {name} on PATH (package {package})"

    return missing


def bash_completion_missing() -> str | None:
    """bash-completion, which loads the completion of a command by its name."""
    if Path(BASH_COMPLETION).exists():
        return None
    return f"needs {BASH_COMPLETION} (package bash-completion)"


FEATURES: dict[str, Callable[[], str | None]] = {
    "fuse": functools.cache(fuse_missing),
    "root": functools.cache(root_missing),
    "shm": functools.cache(shm_missing),
    "page_owner_sort": functools.cache(page_owner_sort_missing),
    "page_owner_sort_6_1": functools.cache(page_owner_sort_6_1_missing),
    "user": functools.cache(user_missing),
    "tmpfs": functools.cache(tmpfs_missing),
    "busybox": command_missing("busybox", "busybox"),
    "unshare": functools.cache(unshare_missing),
    "cgroup2": functools.cache(cgroup2_missing),
    "bpf": functools.cache(bpf_missing),
    "pip": functools.cache(pip_missing),
    "man": command_missing("man", "man-db"),
    "bash": bash_completion_missing,
    "zsh": command_missing("zsh", "zsh"),
    "fish": command_missing("fish", "fish"),
}


def required_features() -> set[str]:
    """Return the features that PAGEOWNERFS_REQUIRE names."""
    names = os.environ.get("PAGEOWNERFS_REQUIRE", "").split(",")
    return {name.strip() for name in names} - {""}


def require_feature(name: str) -> None:
    """Skip the test if the feature is missing, or fail it if the feature is required."""
    reason = FEATURES[name]()
    if reason is None:
        return
    if name in required_features():
        pytest.fail(f"PAGEOWNERFS_REQUIRE names {name}: {reason}", pytrace=False)
    pytest.skip(reason)


def pytest_configure() -> None:
    """
    Refuse a PAGEOWNERFS_REQUIRE with a misspelt name, which would require nothing.

    Also handle Ctrl-C, which background jobs of a shell and all their children ignore.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    unknown = required_features() - FEATURES.keys()
    if unknown:
        msg = f"PAGEOWNERFS_REQUIRE: unknown {sorted(unknown)}; the features are {list(FEATURES)}"
        raise pytest.UsageError(msg)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Check the ``require`` marks of a test before its fixtures are made."""
    for mark in item.iter_markers("require"):
        for name in mark.args:
            require_feature(name)


@pytest.fixture(scope="session")
def require() -> Callable[[str], None]:
    """Return a function for needs that a test learns of while it runs: ``require("tmpfs")``."""
    return require_feature


# ---- programs ----


def find_page_owner_sort() -> Path | None:
    """Find the kernel's tool: PAGEOWNERFS_PAGE_OWNER_SORT, or the result of the build script."""
    named = os.environ.get("PAGEOWNERFS_PAGE_OWNER_SORT")
    if named:
        return Path(named) if os.access(named, os.X_OK) else None
    preferred = page_owner_sort_cache("6.12")
    if preferred.exists():
        return preferred
    return next(iter(sorted(preferred.parent.glob("page_owner_sort-*"), reverse=True)), None)


def page_owner_sort_cache(version: str) -> Path:
    """Return the path where scripts/dev/build-page-owner-sort puts the tool of a version."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "pageownerfs" / f"page_owner_sort-{version}"


@pytest.fixture(scope="session")
def page_owner_sort() -> Path:
    """Return the path of the kernel's own page_owner_sort."""
    require_feature("page_owner_sort")
    path = find_page_owner_sort()
    assert path is not None
    return path


@pytest.fixture(scope="session")
def page_owner_sort_6_1() -> Path:
    """Return the path of the page_owner_sort of Linux 6.1."""
    require_feature("page_owner_sort_6_1")
    return page_owner_sort_cache("6.1")


@pytest.fixture(scope="session")
def pageownerfs() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs the command: ``pageownerfs("status", "--json", path)``."""
    return run_pageownerfs


@pytest.fixture
def mount_pool(tmp_path: Path) -> Iterator[Callable[..., Mount]]:
    """Return a function that mounts pools, each on its own directory.

    ``pool = mount_pool("page_owner=on", "size=64M")``; other parameters are those of ``Mount``,
    and ``path`` mounts on another directory. All pools are unmounted at the end of the test.
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
    """Lets a test that runs as root run programs as another user."""

    directory: Path
    """The user's home, empty; mount points can be made there."""
    python: Sequence[str]
    """Start of a command line: Python as the user, with the package and its dependencies."""

    @property
    def pageownerfs(self) -> Sequence[str]:
        """Return the start of a command line: the program, as the user."""
        return [*self.python, "-m", "pageownerfs"]


@pytest.fixture
def ordinary_user() -> Iterator[OrdinaryUser]:
    """Let the ordinary user run the package and open /dev/fuse, and undo that afterwards.

    The checkout may be below a directory that only root can enter, so the package is copied.
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
