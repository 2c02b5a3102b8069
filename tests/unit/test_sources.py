"""The daemon's side of a pool: its file, its log, its dead clients."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pageownerfs import UsageError
from pageownerfs.sources.pool import PoolOptions, PoolSource
from pageownerfs.sources.pool.shm import SHM_DIR, default_size_bytes, remove_stale_pools

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.require("shm")
SIZE = 8 << 20
ORPHAN = """
import os, signal
from pageownerfs.client import Pool
from pageownerfs.sources.pool.shm import new_pool_path
pool = Pool.create(new_pool_path(), 8 << 20, 0, 0, 16, 1 << 20)
print(pool.path, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
CLIENT = """
import sys
from pageownerfs.client import Pool
pool = Pool.open(sys.argv[1])
pool.alloc_pages()
print("allocated", flush=True)
sys.stdin.read()
"""


def run_killed(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run code that kills itself."""
    done = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    return done


@pytest.fixture
def source() -> Iterator[PoolSource]:
    """Make a small pool that does not track."""
    with PoolSource(PoolOptions(size_bytes=SIZE)) as made:
        yield made


def test_file_is_private_and_goes(source: PoolSource) -> None:
    """The file has mode 0600 and is gone after close()."""
    path = Path(source.describe()["shm_path"])
    assert path.parent == Path(SHM_DIR)
    assert path.stat().st_mode & 0o777 == 0o600
    source.close()
    assert not path.exists()
    source.close()


def test_enable_logs_as_the_kernel(caplog: pytest.LogCaptureFixture) -> None:
    """Switching on logs page_ext and the early pages per zone; doing it again has no effect."""
    caplog.set_level(logging.INFO, "pageownerfs")
    with PoolSource(PoolOptions(size_bytes=SIZE)) as source:
        assert caplog.messages[-1] == "page_owner is disabled"
        caplog.clear()
        source.enable_page_owner()
        assert source.page_owner_on
        early = source.stats()["early_pages"]
        assert early > 0
        assert caplog.messages[0].startswith("allocated ")
        assert caplog.messages[0].endswith(" bytes of page_ext")
        zone = f"Node 0, zone      DMA: page owner found early allocated {early} pages"
        assert caplog.messages[1:] == [zone]
        source.enable_page_owner()
        assert len(caplog.messages) == 2


def test_stale_pool_is_removed(source: PoolSource) -> None:
    """The pool of a dead daemon is removed at the next start; that of a living one stays."""
    orphan = Path(run_killed(ORPHAN).stdout.strip())
    assert orphan.exists()
    remove_stale_pools()
    assert not orphan.exists()
    assert Path(source.describe()["shm_path"]).exists()


def test_new_empty_file_is_not_stale() -> None:
    """A file that another daemon is just creating is left alone."""
    path = Path(SHM_DIR, f"pageownerfs-test-{os.getpid()}")
    path.touch()
    try:
        remove_stale_pools()
        assert path.exists()
    finally:
        path.unlink()


def test_tick_recovers_the_dead(source: PoolSource, caplog: pytest.LogCaptureFixture) -> None:
    """A killed client's lists come back, and the log names the client."""
    caplog.set_level(logging.INFO, "pageownerfs")
    before = source.describe()
    line = [sys.executable, "-c", CLIENT, before["shm_path"]]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"allocated\n"
        source.tick()
        clients = source.describe()["clients"]
        client.kill()
    source.tick()
    after = source.describe()
    assert [seen["tgid"] for seen in clients] == [client.pid]
    assert source.stats()["dead_clients"] == 1
    assert after["pages_allocated"] == before["pages_allocated"] + 1
    assert after["pages_free"] == before["pages_free"] - 1
    assert any(f"client pid {client.pid} (" in message for message in caplog.messages)


@pytest.mark.parametrize(
    "options",
    [
        PoolOptions(size_bytes=4096),
        PoolOptions(size_bytes=SIZE, movablecore_bytes=2 * SIZE),
        PoolOptions(size_bytes=SIZE, stack_depth=65),
        PoolOptions(size_bytes=SIZE, stack_depot_bytes=1),
    ],
    ids=["tiny", "all movable", "deep", "no depot"],
)
def test_impossible_pools(options: PoolOptions) -> None:
    """Sizes that make no pool are the user's error and leave no file."""
    before = set(Path(SHM_DIR).iterdir())
    with pytest.raises(UsageError):
        PoolSource(options)
    assert set(Path(SHM_DIR).iterdir()) <= before


def test_default_size() -> None:
    """The default is at most 1 GiB, and a multiple of the largest block."""
    size = default_size_bytes()
    assert 0 < size <= 1 << 30
    assert size % (4 << 20) == 0
