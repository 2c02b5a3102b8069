"""A client that overwrites the pool: the daemon survives and readers get an answer."""

from __future__ import annotations

import mmap
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pageownerfs import Pool, _native

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.require("fuse", "shm"), pytest.mark.slow]

HEADER = _native.LAYOUT["struct pool_header"]
PAGE_SIZE = 4096
SEEDS = range(3)


def field(data: mmap.mmap, name: str, size: int) -> int:
    """Read a field of the pool's header."""
    return int.from_bytes(data[HEADER[name] : HEADER[name] + size], "little")


def regions(data: mmap.mmap) -> dict[str, range]:
    """Return the bytes of each part of a 16 MiB pool that has memory."""
    page_ext = field(data, "page_ext_pfn", 4) * PAGE_SIZE
    mem_map, blocks = field(data, "mem_map_offset", 8), field(data, "pageblock_offset", 8)
    clients, depot = field(data, "clients_offset", 8), field(data, "depot_offset", 8)
    return {
        "statistics and zones": range(HEADER["stats"], HEADER[""]),
        "page_ext": range(page_ext, page_ext + 64 * (mem_map // PAGE_SIZE)),
        "mem_map": range(mem_map, blocks),
        "pageblocks": range(blocks, blocks + 8),
        "first client": range(clients, clients + PAGE_SIZE),
        "depot": range(depot, depot + (256 << 10) + 4096),
    }


def scribble(path: Path, part: str, seed: int) -> None:
    """Write random bytes over a part of the file: single bytes here and there, and one run."""
    chance = random.Random(f"{part} {seed}")
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        where = regions(data)[part]
        for _ in range(len(where) // 50 + 5):
            data[chance.choice(where)] = chance.randrange(256)
        start = where.start + chance.randrange(len(where) // 2)
        size = min(1000, where.stop - start)
        data[start : start + size] = chance.randbytes(size)


# Uses whatever is left of a pool; only documented errors are acceptable.
CLIENT = """
import sys
from pageownerfs import PageOwnerError, Pool

def use(pool, order):
    for page in [pool.alloc_pages(order) for _ in range(20)]:
        pool.free_pages(page)

for order in (0, 0, 3, 0, 9):
    try:
        with Pool.attach(sys.argv[1]) as pool:
            use(pool, order)
    except (PageOwnerError, OSError) as error:
        print(error)
"""


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "part", ["statistics and zones", "page_ext", "mem_map", "pageblocks", "first client", "depot"]
)
def test_scribbled_over(
    mount_pool: Callable[..., Any],
    pageownerfs: Callable[..., subprocess.CompletedProcess[str]],
    part: str,
    seed: int,
) -> None:
    """Whatever part of the pool is garbage, nobody crashes or hangs, and nothing is left."""
    mounted = mount_pool("page_owner=on", "size=16M")
    path = mounted.path
    with Pool.attach(path) as pool:
        for _ in range(100):
            pool.alloc_pages()
        scribble(mounted.shm_path, part, seed)
    text = (path / "page_owner").read_bytes()
    assert text == b"" or text.startswith(b"Page allocated via order ")
    assert (path / "page_owner").stat().st_size >= 0
    assert (path / "stats").read_text().startswith("pgalloc ")
    assert pageownerfs("status", path).returncode == 0
    line = [sys.executable, "-c", CLIENT, path]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path / "page_owner").read_bytes()
    assert mounted.status()["pid"] == mounted.pid


def open_in_child(path: Path) -> int:
    """Open the file as a pool in a child, use it if that works, and return the exit status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with Pool.open(str(path)) as pool:
                pool.all_zones()
                pool.stats()
            status = 0
        except (OSError, ValueError):
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1]


def test_headers_that_lie(tmp_path: Path) -> None:
    """Any file is opened as a pool or refused with an error, whatever its header says."""
    path = Path("/dev/shm") / f"pageownerfs-test-{os.getpid()}"
    chance = random.Random(7)
    try:
        with Pool.create(str(path), 1 << 20, 0, 0, 16, 64 << 10):
            header = path.read_bytes()[: HEADER["stats"]]
        for position in range(0, len(header), 2):
            changed = bytearray(header)
            changed[position] ^= 1 << chance.randrange(8)
            changed[position] ^= chance.choice([0, 0, 0xFF])
            with path.open("r+b") as file:
                file.write(changed)
            assert open_in_child(path) == 0, position
        for size in (0, 1, HEADER[""], PAGE_SIZE, path.stat().st_size - 1):
            copy = tmp_path / "truncated"
            copy.write_bytes(header)
            os.truncate(copy, size)
            with pytest.raises(ValueError, match=r"not a pool|corrupt"):
                Pool.open(str(copy))
    finally:
        path.unlink(missing_ok=True)
    with pytest.raises(ValueError, match="not a pool"):
        Pool.open("/dev/null")
    with pytest.raises(OSError, match="No such file"):
        Pool.open(str(path))
