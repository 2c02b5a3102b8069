"""Shared fixtures for the C core: pools without a mount, children, a walk over all pages."""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import signal
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pageownerfs.client import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHM = Path("/dev/shm")
MIB = 1 << 20
_numbers = itertools.count()


def new_path(directory: Path = SHM) -> Path:
    """Return a path that no other test uses."""
    return directory / f"pageownerfs-test-{os.getpid()}-{next(_numbers)}"


def turn_on(pool: Pool) -> list[int]:
    """Switch tracking on as the daemon does; return the early pages per zone."""
    return pool.enable_page_owner(pool.capture_stack, pool.capture_stack)


def for_each_block(pool: Pool) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the PFN and the page_info() of the head of each allocated block."""
    pfn = 0
    while pfn < pool.nr_pages:
        info = pool.page_info(pfn)
        allocated = info.state == "allocated"
        if allocated:
            yield pfn, info
        pfn += 1 << info.order if allocated or info.state == "buddy" else 1


def assert_conserved(pool: Pool) -> None:
    """Assert that free + on order-0 lists + allocated = managed in each zone; run check()."""
    assert pool.check() == []
    allocated = [0, 0, 0]
    for _pfn, info in for_each_block(pool):
        allocated[info.zone] += 1 << info.order
    for zone, nr_allocated in zip(pool.all_zones(), allocated, strict=True):
        found = zone.nr_free + zone.nr_pcp + nr_allocated
        assert found == zone.managed_pages, zone


class Pools:
    """Makes pools, and checks at the end that each one is in order and gone."""

    def __init__(self) -> None:
        """Start without pools."""
        self.paths: list[Path] = []

    def __call__(
        self,
        size_mib: int = 32,
        movablecore_mib: int = 0,
        cma_mib: int = 0,
        *,
        stack_depth: int = 16,
        stack_depot_bytes: int = MIB,
        page_owner: bool = False,
        directory: Path = SHM,
    ) -> Pool:
        """Make a pool."""
        path = new_path(directory)
        sizes = (size_mib * MIB, movablecore_mib * MIB, cma_mib * MIB)
        pool = Pool.create(str(path), *sizes, stack_depth, stack_depot_bytes)
        self.paths.append(path)
        if page_owner:
            turn_on(pool)
        return pool

    def end(self, path: Path) -> None:
        """Check a pool a last time; its processes are gone."""
        with Pool.open(str(path)) as pool:
            pool.recover_clients()
            assert_conserved(pool)


@pytest.fixture
def make_pool() -> Iterator[Pools]:
    """Return a function that makes pools; the end of the test checks and removes them."""
    pools = Pools()
    try:
        yield pools
        for path in pools.paths:
            if path.exists():
                pools.end(path)
    finally:
        for path in pools.paths:
            path.unlink(missing_ok=True)


@pytest.fixture
def pool(make_pool: Pools) -> Pool:
    """Return a pool of 32 MiB: zones DMA and Normal, tracking off."""
    return make_pool()


@pytest.fixture
def tracked(make_pool: Pools) -> Pool:
    """Return a pool of 32 MiB with tracking on."""
    return make_pool(page_owner=True)


@pytest.fixture
def enable_page_owner() -> Callable[[Pool], list[int]]:
    """Return turn_on()."""
    return turn_on


@pytest.fixture
def blocks() -> Callable[[Pool], Iterator[tuple[int, dict[str, Any]]]]:
    """Return for_each_block()."""
    return for_each_block


@pytest.fixture
def conserved() -> Callable[[Pool], None]:
    """Return assert_conserved()."""
    return assert_conserved


@pytest.fixture
def unchanged() -> Callable[[Pool], contextlib.AbstractContextManager[None]]:
    """Return a context manager in which a pool must not change."""

    @contextlib.contextmanager
    def context(pool: Pool) -> Iterator[None]:
        before = (pool.all_zones(), [(pfn, info) for pfn, info in for_each_block(pool)])
        yield
        assert (pool.all_zones(), [(pfn, info) for pfn, info in for_each_block(pool)]) == before
        assert_conserved(pool)

    return context


class Child:
    """A forked process that calls a function."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Fork."""
        self._read_fd, write_fd = os.pipe()
        self.pid = os.fork()
        self.status: int | None = None
        if self.pid == 0:
            os.close(self._read_fd)
            self._run(write_fd, function, args)
        os.close(write_fd)

    @staticmethod
    def _run(write_fd: int, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        # Whatever happens, the child must not return into pytest.
        try:
            answer = pickle.dumps((True, function(*args)))
        except BaseException:  # noqa: BLE001 - the parent raises it again
            answer = pickle.dumps((False, traceback.format_exc()))
        try:
            with open(write_fd, "wb") as pipe:
                pipe.write(answer)
        finally:
            os._exit(0)

    def _reap(self) -> None:
        if self.status is None:
            self.status = os.waitpid(self.pid, 0)[1]

    def result(self) -> Any:
        """Wait for the function's result; an exception in it fails the test."""
        with open(self._read_fd, "rb", closefd=False) as pipe:
            answer = pipe.read()
        self._reap()
        assert answer, f"the child {self.pid} ended with status {self.status:#x}"
        good, value = pickle.loads(answer)
        assert good, value
        return value

    def signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it with SIGKILL and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self._reap()

    def end(self) -> None:
        """Clean up, whatever state it is in."""
        if self.status is None:
            self.kill()
        if self._read_fd >= 0:
            os.close(self._read_fd)
            self._read_fd = -1


@pytest.fixture
def fork() -> Iterator[Callable[..., Child]]:
    """Return a function that runs another in a forked child: ``fork(f, 1).result()``."""
    children: list[Child] = []

    def start(function: Callable[..., Any], *args: Any) -> Child:
        child = Child(function, args)
        children.append(child)
        return child

    yield start
    for child in children:
        child.end()
