"""Shared fixtures for the kernel source: mounts, and a process that follows commands."""

from __future__ import annotations

import itertools
import subprocess
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from kernel_mount import KernelMount
from kernel_process import Process, compile_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def mount_kernel(
    tmp_path: Path, require: Callable[[str], None]
) -> Iterator[Callable[..., KernelMount]]:
    """Return a function that mounts the kernel source: ``mount_kernel("page_owner=on")``.

    Each mount is removed at the end of the test.
    """
    require("fuse")
    require("bpf")
    numbers = itertools.count()

    with ExitStack() as stack:

        def mount(*options: str) -> KernelMount:
            path = tmp_path / f"kernel{next(numbers)}"
            path.mkdir()
            return stack.enter_context(KernelMount(path, *options))

        yield mount


@pytest.fixture(scope="module")
def tracked(
    tmp_path_factory: pytest.TempPathFactory, require: Callable[[str], None]
) -> Iterator[KernelMount]:
    """Mount once for all tests of a module, with page_owner=on."""
    require("fuse")
    require("bpf")
    # Two snapshots of a machine whose memory is full of cached files need more than the default.
    options = ("page_owner=on", "snapshots=2G")
    with KernelMount(tmp_path_factory.mktemp("tracked"), *options) as mount:
        yield mount


@pytest.fixture(scope="module")
def ours(
    tmp_path_factory: pytest.TempPathFactory, require: Callable[[str], None]
) -> Iterator[KernelMount]:
    """Mount with a filter for our own processes: the text is short and quick to read."""
    require("fuse")
    require("bpf")
    path = tmp_path_factory.mktemp("ours")
    with KernelMount(path, "page_owner=on", "comm=kernel_process") as mount:
        yield mount


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile kernel_process.c and return its path."""
    return compile_process(tmp_path_factory.mktemp("program"))


@pytest.fixture
def start(program: Path) -> Iterator[Callable[[], Process]]:
    """Return a function that starts such a process, which ends with the test."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(Process(program))


@pytest.fixture
def tmpfs(tmp_path: Path, require: Callable[[str], None]) -> Iterator[Path]:
    """Mount a private tmpfs."""
    require("tmpfs")
    path = tmp_path / "tmpfs"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)
