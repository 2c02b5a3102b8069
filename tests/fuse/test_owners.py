"""page_owner shows exactly the pages that processes have allocated."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from pageownerfs.mm.gfp import format_gfp, gfp_migratetype
from pageownerfs.mm.migratetype import migratetype_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    Command = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = [pytest.mark.require("fuse", "shm"), pytest.mark.slow]

# Only the comm may contain anything; what follows it is matched from the end of the line.
RECORD = re.compile(
    rb"Page allocated via order (\d+), mask (0x[0-9a-f]+\([^)\n]*\)), pid (\d+), tgid (\d+) "
    rb"\((.{0,15}?)\), ts (\d+) ns\n"
    rb"PFN (0x[0-9a-f]+) type (\w+) Block (\d+) type (\w+) Flags 0x[0-9a-f]+\(([^)\n]*)\)\n"
    rb"((?: [^\n]+\n)*)\n",
    re.DOTALL,
)
HOSTILE = [b"a) b), ts 5 ns", b"order 3, x", b"two\nlines", b"", b"\xff\xfe", b"pid 7, tgid 8"]

# A client sets its comm, allocates through two functions, reports its pages, and waits.
CLIENT = r"""
import ctypes, json, os, sys, threading
from pageownerfs import Pool
mountpoint, comm, seed = sys.argv[1], bytes.fromhex(sys.argv[2]), int(sys.argv[3])

def of_main(pool, order, mask):
    return pool.alloc_pages(order, mask)

def of_thread(pool, order, mask):
    return (lambda: pool.alloc_pages(order, gfp_mask=mask))()

def allocate(function, pool, nr, out):
    assert ctypes.CDLL(None).prctl(15, comm, 0, 0, 0) == 0
    for i in range(nr):
        order, mask = (seed + i) % 5, (0xcc0, 0x100cca, 0x40dc0, 0x820, 0xcd0)[(seed * i) % 5]
        page = function(pool, order, mask)
        ids = [threading.get_native_id(), os.getpid()]
        out.append([page.pfn, order, mask, *ids, function.__name__])
        if i % 3 == 0:
            pool.free_pages(pool.alloc_pages(order, mask))

out = []
with Pool.attach(mountpoint) as pool:
    allocate(of_main, pool, 50, out)
    thread = threading.Thread(target=allocate, args=(of_thread, pool, 50, out))
    thread.start()
    thread.join()
    print(json.dumps(out), flush=True)
    sys.stdin.read()
"""


class Owned(NamedTuple):
    """One block, with everything that its record must show."""

    pfn: int
    order: int
    mask: str
    pid: int
    tgid: int
    comm: bytes
    page_mt: str


def parse(text: bytes) -> dict[Owned, list[bytes]]:
    """Return the stacks of all records except early ones; fail on any other text."""
    end = 0
    owned = {}
    while end < len(text):
        record = RECORD.match(text, end)
        assert record, text[end : end + 200]
        end = record.end()
        order, mask, pid, tgid, comm, _ts, pfn, page_mt, block, _block_mt, _flags, stack = (
            record.groups()
        )
        assert int(block) == int(pfn, 16) >> 9
        if mask == b"0x0()":
            assert stack.startswith(b" register_early_stack+0x")
            continue
        key = Owned(
            *(int(pfn, 16), int(order), mask.decode(), int(pid), int(tgid), comm, page_mt.decode())
        )
        assert key not in owned
        owned[key] = stack.splitlines()
    return owned


def start_clients(path: Path, comms: Iterable[bytes]) -> list[subprocess.Popen[str]]:
    """Start one client for each comm."""
    return [
        subprocess.Popen(
            [sys.executable, "-c", CLIENT, path, comm.hex(), str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed, comm in enumerate(comms)
    ]


def expect(rows: Iterable[list[Any]], comm: bytes) -> dict[Owned, str]:
    """Turn a client's report into the records that its blocks must have, by function."""
    return {
        Owned(
            *(pfn, order, format_gfp(mask), pid, tgid, comm[:15]),
            migratetype_name(gfp_migratetype(mask)),
        ): function
        for pfn, order, mask, pid, tgid, function in rows
    }


def alloc_by_command(pageownerfs: Command, path: Path, order: int) -> dict[Owned, str]:
    """Leak seven blocks with `pageownerfs alloc`; return the records that they must have."""
    names = "GFP_KERNEL|__GFP_ZERO"
    args = ["alloc", path, "--order", str(order), "--count", "7", "--gfp", names, "--leak"]
    done = pageownerfs(*args)
    assert done.returncode == 0, done.stderr
    pfns = [int(word, 16) for word in re.findall(r"0x[0-9a-f]+", done.stdout)]
    assert len(pfns) == 7, done.stdout
    return {
        Owned(pfn, order, "0xdc0(GFP_KERNEL|__GFP_ZERO)", 0, 0, b"", "Unmovable"): "alloc"
        for pfn in pfns
    }


@pytest.fixture
def owned_pool(
    mount_pool: Callable[..., Any], pageownerfs: Command
) -> Iterable[tuple[Path, dict[Owned, str], dict[Owned, str]]]:
    """Mount a pool with pages of eight processes and more; yield what they report."""
    path = mount_pool("page_owner=on", "size=256M").path
    comms = [*HOSTILE, b"plain", b"python3 -c"]
    clients = start_clients(path, comms)
    try:
        expected = {}
        for client, comm in zip(clients, comms, strict=True):
            assert client.stdout is not None
            expected |= expect(json.loads(client.stdout.readline()), comm)
        by_command = {}
        for order in (0, 3):
            by_command |= alloc_by_command(pageownerfs, path, order)
        yield path, expected, by_command
    finally:
        for client in clients:
            client.communicate()
    assert [client.returncode for client in clients] == [0] * len(clients)


def test_exactly_their_pages(owned_pool: tuple[Path, dict[Owned, str], dict[Owned, str]]) -> None:
    """Every block of every process is shown with its owner and stack, and nothing else is."""
    path, expected, by_command = owned_pool
    records = parse((path / "page_owner").read_bytes())
    for owned, stack in list(records.items()):
        # The command's pid and comm are unknown here; PFN, order and mask are known.
        anonymous = owned._replace(pid=0, tgid=0, comm=b"")
        if anonymous in by_command:
            assert owned.pid == owned.tgid > 0
            assert any(b" [pageownerfs.cli.alloc]" in line for line in stack)
            del records[owned]
            del by_command[anonymous]
    assert not by_command
    assert records.keys() == expected.keys()
    for owned, function in expected.items():
        stack = records[owned]
        names = [line.split(b"+")[0].decode() for line in stack]
        first = {"of_main": [" of_main"], "of_thread": [" of_thread.<locals>.<lambda>"]}[function]
        if function == "of_thread":
            first.append(" of_thread")
        assert names[: len(first) + 1] == [*first, " allocate"]
        assert all(line.endswith(b" [__main__]") for line in stack[:2])


def test_kernel_page_owner_sort(
    owned_pool: tuple[Path, dict[Owned, str], dict[Owned, str]],
    page_owner_sort: Path,
    tmp_path: Path,
) -> None:
    """The kernel's own tool prints the same for the mounted file as for a copy."""
    path, _, _ = owned_pool
    full = tmp_path / "full.txt"
    subprocess.run(["sh", "-c", f"cat {path}/page_owner > {full}"], check=True)
    for options in ([], ["-m"], ["-a"], ["-p"], ["-n"], ["-s"], ["--cull=pid"], ["--cull=st"]):
        outputs = []
        for source in (path / "page_owner", full):
            out = tmp_path / f"out{len(outputs)}"
            line = [page_owner_sort, *options, source, out]
            done = subprocess.run(line, capture_output=True, check=True)
            assert b"loaded " in done.stdout
            outputs.append(out.read_bytes())
        assert outputs[0] == outputs[1]
        assert outputs[0].count(b" times, ") > 3
    records = full.read_bytes().count(b"\nPFN 0x")
    times = sum(int(n) for n in re.findall(rb"^(\d+) times, ", outputs[0], re.MULTILINE))
    assert times == records
