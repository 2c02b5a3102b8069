"""Owners: what a page's record says after each event, and what its stack says."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

import pytest

from pageownerfs.errors import OutOfMemoryError
from pageownerfs.mm import gfp
from pageownerfs.mm.page_alloc import Pool
from pageownerfs.mm.page_ext import (
    PAGE_EXT_OWNER_ALLOCATED,
    PAGE_EXT_OWNER_EARLY,
    PAGE_EXT_OWNER_FREED,
)
from pageownerfs.mm.stack_depot import Frame, format_stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pageownerfs import _native

    Fork = Callable[..., Any]

pytestmark = pytest.mark.require("shm")

PR_SET_NAME = 15
COMM = Path("/proc/thread-self/comm")


def owner(pool: Pool, pfn: int) -> dict[str, Any]:
    """Return the record of a page."""
    record: dict[str, Any] = pool.page_info(pfn)["page_owner"]
    return record


def frames(pool: Pool, page: _native.Page) -> list[Frame]:
    """Return the stack of a page's allocation."""
    return [Frame(*frame) for frame in pool.depot_stack(owner(pool, page.pfn)["handle"])]


def pfns(page: _native.Page) -> range:
    """All pages of a block."""
    return range(page.pfn, page.pfn + (1 << page.order))


# ---- the record ----


@pytest.mark.parametrize("order", [0, 1, 5, 10])
@pytest.mark.parametrize("gfp_mask", [gfp.GFP_KERNEL, gfp.GFP_KERNEL | gfp.__GFP_COMP, 0x100CCA])
def test_allocation(tracked: Pool, order: int, gfp_mask: int) -> None:
    """Every page of a block gets the same record: who, how, when, with one time for all."""
    before = time.monotonic_ns()
    page = tracked.alloc_pages(order, gfp_mask)
    after = time.monotonic_ns()
    records = [owner(tracked, pfn) for pfn in pfns(page)]
    assert all(record == records[0] for record in records)
    record = records[0]
    assert record["order"] == order
    assert record["gfp_mask"] == gfp_mask
    assert record["pid"] == threading.get_native_id()
    assert record["tgid"] == os.getpid()
    assert record["comm"] == COMM.read_bytes()[:-1]
    assert before <= record["ts_nsec"] <= after
    assert record["last_migrate_reason"] == -1
    assert record["handle"] != 0
    assert (record["state"], record["free_handle"], record["free_ts_nsec"]) == (
        PAGE_EXT_OWNER_ALLOCATED,
        0,
        0,
    )
    assert record["pageblock_migratetype"] == tracked.page_info(page.pfn)["migratetype"]


def freed_by(path: str, pfn: int) -> tuple[int, int]:
    """Free a page of another process, in a thread; pid and tgid of who did it."""
    with Pool.open(path) as pool:
        ids: list[int] = []

        def run() -> None:
            pool.free_pages(pfn)
            ids.append(threading.get_native_id())

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return ids[0], os.getpid()


@pytest.mark.parametrize("order", [0, 3])
def test_free(tracked: Pool, fork: Fork, order: int) -> None:
    """A free keeps the allocation's data and adds who freed, when and from where."""
    page = tracked.alloc_pages(order)
    allocated = owner(tracked, page.pfn)
    before = time.monotonic_ns()
    pid, tgid = fork(freed_by, tracked.path, page.pfn).result()
    after = time.monotonic_ns()
    for pfn in pfns(page):
        record = owner(tracked, pfn)
        assert before <= record["free_ts_nsec"] <= after
        assert (record["free_pid"], record["free_tgid"]) == (pid, tgid)
        assert record["free_pid"] != record["free_tgid"]
        assert tracked.depot_stack(record["free_handle"])[0][0] == "freed_by.<locals>.run"
        assert record["state"] == PAGE_EXT_OWNER_FREED
        changed = ("state", "free_ts_nsec", "free_pid", "free_tgid", "free_handle")
        kept = {name: value for name, value in allocated.items() if name not in changed}
        assert kept.items() <= record.items()


def test_allocation_after_free(tracked: Pool) -> None:
    """A new allocation overwrites that of before, and keeps what the last free has left."""
    page = tracked.alloc_pages()
    tracked.free_pages(page)
    freed = owner(tracked, page.pfn)
    again = tracked.alloc_pages(0, gfp.GFP_USER)
    record = owner(tracked, again.pfn)
    assert again.pfn == page.pfn
    assert record["state"] == PAGE_EXT_OWNER_ALLOCATED | PAGE_EXT_OWNER_FREED
    assert record["gfp_mask"] == gfp.GFP_USER
    assert record["ts_nsec"] > freed["ts_nsec"]
    for name in ("free_ts_nsec", "free_pid", "free_tgid", "free_handle"):
        assert record[name] == freed[name]


def test_split(tracked: Pool) -> None:
    """A split rewrites the order on all pages, and nothing else."""
    page = tracked.alloc_pages(6)
    before = [owner(tracked, pfn) for pfn in pfns(page)]
    start = page.pfn
    parts = tracked.split_page(page, 2)
    assert [owner(tracked, start + nr) for nr in range(64)] == [
        record | {"order": 2} for record in before
    ]
    tracked.split_page(parts[3])
    assert [owner(tracked, start + nr)["order"] for nr in range(8, 20)] == [2] * 4 + [0] * 4 + [
        2
    ] * 4


def test_references_leave_the_record(tracked: Pool) -> None:
    """Taking and dropping references changes nothing, until the last one."""
    page = tracked.alloc_pages(2)
    before = owner(tracked, page.pfn)
    tracked.get_page(page)
    tracked.put_page(page)
    assert owner(tracked, page.pfn) == before
    tracked.put_page(page)
    assert owner(tracked, page.pfn)["state"] == PAGE_EXT_OWNER_FREED


# ---- switching on ----


def test_off(pool: Pool) -> None:
    """Without tracking there is no record, no depot, no stack."""
    page = pool.alloc_pages()
    assert not pool.page_owner_on
    assert pool.page_info(page.pfn)["page_owner"] is None
    assert pool.capture_stack() == 0
    with pytest.raises(ValueError, match="no stack in the depot"):
        pool.depot_stack(1)


def test_early_pages(
    make_pool: Callable[..., Pool], enable_page_owner: Callable[[Pool], list[int]]
) -> None:
    """Pages allocated before are found: order 0, mask 0, one stack, counted for each zone."""
    pool = make_pool(64, 16)
    masks = {0: gfp.GFP_KERNEL | gfp.GFP_DMA, 1: gfp.GFP_KERNEL, 2: gfp.GFP_HIGHUSER_MOVABLE}
    pages = {
        zone: [pool.alloc_pages(order, masks[zone]) for order in (0, 0, 3, 9)] for zone in masks
    }
    freed = [pool.alloc_pages(order) for order in (0, 4)]
    for page in freed:
        pool.free_pages(page)
    managed = pool.managed_pages
    before = time.monotonic_ns()
    nr_early = enable_page_owner(pool)
    assert pool.page_owner_on
    nr_page_ext_pages = pool.stats()["page_ext_bytes"] // 4096
    metadata = [0, nr_page_ext_pages, 0]
    assert nr_early == [count + 1 + 1 + 8 + 512 for count in metadata]
    assert pool.stats()["early_pages"] == sum(nr_early)
    assert pool.managed_pages == managed + nr_page_ext_pages
    handles = set()
    for pfn in [pfn for zone in pages.values() for page in zone for pfn in pfns(page)]:
        record = owner(pool, pfn)
        handles.add(record["handle"])
        assert record["state"] == PAGE_EXT_OWNER_ALLOCATED | PAGE_EXT_OWNER_EARLY
        assert (record["order"], record["gfp_mask"]) == (0, 0)
        assert record["tgid"] == os.getpid()
        assert record["ts_nsec"] >= before
    assert len(handles) == 1
    for pfn in [pfn for page in freed for pfn in pfns(page)]:
        assert owner(pool, pfn)["state"] == 0
    for page in [page for zone in pages.values() for page in zone]:
        pool.free_pages(page)
        assert owner(pool, page.pfn)["state"] == PAGE_EXT_OWNER_FREED
    assert enable_page_owner(pool) == [0, 0, 0]


def allocate_for_ever(path: str, seed: int) -> None:
    """Allocate and free until killed."""
    import random

    chance = random.Random(seed)
    with Pool.open(path) as pool:
        held: list[_native.Page] = []
        while True:
            with contextlib.suppress(OutOfMemoryError):
                held.append(pool.alloc_pages(chance.choice((0, 0, 0, 1, 3, 6)), gfp.GFP_KERNEL))
            if len(held) > chance.randrange(200):
                held[0], held[-1] = held[-1], held[0]
                pool.free_pages(held.pop())


def test_switched_on_in_a_storm(
    make_pool: Callable[..., Pool],
    enable_page_owner: Callable[[Pool], list[int]],
    blocks: Callable[[Pool], Iterator[tuple[int, dict[str, Any]]]],
    fork: Fork,
) -> None:
    """Whatever four processes are doing, no allocated page is without an owner after it."""
    for turn in range(40):
        pool = make_pool(24, 4)
        children = [fork(allocate_for_ever, pool.path, turn * 4 + nr) for nr in range(4)]
        while pool.stats()["pgalloc"] < 4000:
            time.sleep(0.001)
        nr_early = enable_page_owner(pool)
        assert sum(nr_early) > 0
        for _ in range(20):
            assert pool.check() == []
        for child in children:
            child.kill()
        pool.recover_clients()
        assert pool.check() == []
        owners = [(info, info["page_owner"]) for _pfn, info in blocks(pool)]
        assert len(owners) > 0
        tgids = {child.pid for child in children}
        for info, record in owners:
            early = bool(record["state"] & PAGE_EXT_OWNER_EARLY)
            assert record["state"] & PAGE_EXT_OWNER_ALLOCATED
            assert record["handle"] != 0
            assert early or record["tgid"] in tgids
            assert record["order"] == (0 if early else info["order"])


# ---- who ----


@pytest.mark.parametrize(
    "comm",
    [
        b"worker",
        b"a) b), ts 5 ns",
        b"two\nlines",
        b"",
        b"\xff\xfe\x80raw",
        b"x" * 15,
        b"\xc3\xa9" * 7,
    ],
)
@pytest.mark.parametrize("how", ["prctl", "proc"])
def test_comm(tracked: Pool, comm: bytes, how: str) -> None:
    """A name that was changed by any means is in the next record, byte for byte."""
    old = COMM.read_bytes()[:-1]

    def change(name: bytes) -> None:
        if how == "prctl":
            assert ctypes.CDLL(None).prctl(PR_SET_NAME, name, 0, 0, 0) == 0
        else:
            COMM.write_bytes(name or b"\0")

    tracked.free_pages(tracked.alloc_pages())
    try:
        change(comm)
        page = tracked.alloc_pages(1)
        assert owner(tracked, page.pfn)["comm"] == comm
        assert owner(tracked, page.pfn + 1)["comm"] == comm
    finally:
        change(old)
    tracked.free_pages(page)
    assert owner(tracked, tracked.alloc_pages().pfn)["comm"] == old


def test_thread(tracked: Pool) -> None:
    """The pid is the thread's, tgid the process's; each thread has its own name."""
    pages: list[_native.Page] = []
    pids: list[int] = []

    def run() -> None:
        ctypes.CDLL(None).prctl(PR_SET_NAME, b"some thread", 0, 0, 0)
        pages.append(tracked.alloc_pages())
        pids.append(threading.get_native_id())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    record = owner(tracked, pages[0].pfn)
    assert (record["pid"], record["tgid"]) == (pids[0], os.getpid())
    assert record["pid"] != record["tgid"]
    assert record["comm"] == b"some thread"
    assert owner(tracked, tracked.alloc_pages().pfn)["comm"] != b"some thread"


def pid_in_child(pool: Pool) -> tuple[dict[str, Any], int]:
    """Allocate with the parent's attachment."""
    return owner(pool, pool.alloc_pages().pfn), os.getpid()


def test_fork(tracked: Pool, fork: Fork) -> None:
    """A forked child is somebody else, at once."""
    tracked.alloc_pages()
    record, pid = fork(pid_in_child, tracked).result()
    assert record["pid"] == record["tgid"] == pid != os.getpid()


# ---- from where ----


def real_frames(error: BaseException, depth: int) -> list[Frame]:
    """Return what Python says of the stack at which an exception was raised, innermost first."""
    inner = [
        (step.tb_frame, step.tb_lasti, step.tb_lineno) for step in _walk(error.__traceback__)
    ][::-1]
    outer = []
    frame = inner[-1][0].f_back
    while frame is not None:
        outer.append((frame, frame.f_lasti, frame.f_lineno))
        frame = frame.f_back
    return [
        Frame(
            name=frame.f_code.co_qualname,
            module=frame.f_globals["__name__"],
            offset=lasti,
            size=len(frame.f_code.co_code),
            filename=frame.f_code.co_filename,
            lineno=lineno,
        )
        for frame, lasti, lineno in (inner + outer)[:depth]
    ]


def _walk(step: Any) -> Iterator[Any]:
    while step is not None:
        yield step
        step = step.tb_next


class Caller:
    """Ways to be called: each calls ``alloc(order)`` in a frame of another kind."""

    def method(self, alloc: Callable[[int], Any], order: int) -> Any:
        """Call from a method."""
        return alloc(order)

    @staticmethod
    def generator(alloc: Callable[[int], Any], order: int) -> Any:
        """Call from a generator."""

        def values() -> Iterator[Any]:
            yield alloc(order)

        return next(values())

    @staticmethod
    def coroutine(alloc: Callable[[int], Any], order: int) -> Any:
        """Call from a coroutine that another one awaits."""

        async def inner() -> Any:
            return alloc(order)

        async def outer() -> Any:
            return await inner()

        try:
            outer().send(None)
        except StopIteration as done:
            return done.value

    @staticmethod
    def lambda_(alloc: Callable[[int], Any], order: int) -> Any:
        """Call from a lambda."""
        return (lambda: alloc(order))()  # noqa: PLC3002 - that is the point

    @staticmethod
    def comprehension(alloc: Callable[[int], Any], order: int) -> Any:
        """Call from a comprehension."""
        return [alloc(order) for _ in range(1)][0]  # noqa: RUF015 - that is the point

    @staticmethod
    def executed(alloc: Callable[[int], Any], order: int) -> Any:
        """Call from code without a file, and without a module's name."""
        space = {"alloc": alloc, "order": order, "__name__": "made up"}
        exec("page = alloc(order)", space)
        return space["page"]

    @staticmethod
    def callback(alloc: Callable[[int], Any], order: int) -> Any:
        """Call back from C."""
        return functools.reduce(lambda _, order: alloc(order), [order], None)

    @staticmethod
    def recursive(alloc: Callable[[int], Any], order: int, depth: int = 100) -> Any:
        """Call from 100 frames deep."""
        return Caller.recursive(alloc, order, depth - 1) if depth else alloc(order)


WAYS = [
    "method",
    "generator",
    "coroutine",
    "lambda_",
    "comprehension",
    "executed",
    "callback",
    "recursive",
]


@pytest.mark.parametrize("depth", [1, 16, 64])
@pytest.mark.parametrize("way", WAYS)
def test_stack(make_pool: Callable[..., Pool], way: str, depth: int) -> None:
    """A stack is what Python's own traceback says, innermost first, cut at the depth."""
    pool = make_pool(32, stack_depth=depth, page_owner=True)
    call = getattr(Caller(), way)

    def alloc(order: int) -> Any:
        return pool.alloc_pages(order)

    results: list[Any] = []
    for order in (2, 11):  # the same calls, with the second one the allocator raises
        try:
            results.append(call(alloc, order))
        except ValueError as error:
            results.append(real_frames(error, depth))
    page, expected = results
    assert frames(pool, page) == expected
    assert len(expected) == depth or depth == 64
    assert expected[0].name == "test_stack.<locals>.alloc"


def test_free_stack(tracked: Pool) -> None:
    """The stack of a free is that of the free."""
    page = tracked.alloc_pages()
    tracked.free_pages(page)
    line = sys._getframe().f_lineno - 1
    (first, *_) = tracked.depot_stack(owner(tracked, page.pfn)["free_handle"])
    assert (first[0], first[5]) == ("test_free_stack", line)


def test_stack_at_a_shallow_call(tracked: Pool) -> None:
    """A thread's stack is as deep as it is, and no deeper."""
    found: list[Any] = []

    def run() -> None:
        found.append(frames(tracked, tracked.alloc_pages()))
        found.append(traceback.extract_stack())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    stack, expected = found
    assert [(frame.filename, frame.name.rpartition(".")[2]) for frame in stack] == [
        (frame.filename, frame.name) for frame in reversed(expected)
    ]


def test_each_place_has_its_handle(tracked: Pool) -> None:
    """Two calls on two lines are two stacks; the same call again is the same one."""
    handles = []
    for _ in range(3):
        one = tracked.alloc_pages()
        other = tracked.alloc_pages()
        handles.append((owner(tracked, one.pfn)["handle"], owner(tracked, other.pfn)["handle"]))
    assert len(set(handles)) == 1
    assert handles[0][0] != handles[0][1]


HOSTILE = {
    "spaces": "two words",
    "newline": "a\nPage allocated via order 0",
    "lone surrogate": "\udc80\ud800",
    "nul": "a\0b",
    "escape": "\x1b[31mred",
    "long": "x" * 10_000,
    "long and wide": "\N{GRINNING FACE}" * 10_000,
    "empty": "",
    "direction": "\u202egnp.\u2028",
}


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("what", ["name", "module", "filename"])
def test_hostile_names(tracked: Pool, name: str, what: str) -> None:
    """No name of a function, module or file can break a line, a record or the allocation."""

    def function() -> _native.Page:
        return tracked.alloc_pages()

    code = function.__code__
    space = globals()
    if what == "name":
        code = code.replace(co_name=name, co_qualname=name)
    elif what == "filename":
        code = code.replace(co_filename=name)
    else:
        space = {"__name__": name}
    hostile = FunctionType(code, space, "f", (), function.__closure__)
    first = frames(tracked, hostile())[0]
    kept = getattr(first, what)
    assert len(kept.encode()) <= 1024 + 3
    shown = name.encode("utf-8", "backslashreplace").decode()
    assert shown.startswith(kept.rstrip("\N{REPLACEMENT CHARACTER}"))
    assert len(kept) >= min(len(shown), 200)
    text = format_stack([first])
    assert text.count(b"\n") == 1
    assert text.endswith(b"\n")
    assert len(text.split()) <= 2


@pytest.mark.parametrize("module", [None, 5, b"bytes"])
def test_no_module_name(tracked: Pool, module: Any) -> None:
    """A module without a name, or with something else for a name, is no module."""
    space: dict[str, Any] = {"pool": tracked} | ({} if module is None else {"__name__": module})
    space |= {"__builtins__": {}} if module is None else {}
    exec("page = pool.alloc_pages()", space)
    assert frames(tracked, space["page"])[0].module == ""


def handle_in_child(pool: Pool) -> tuple[int, int]:
    """Allocate; the handle of the stack, and of a new attachment's at the same place."""
    with Pool.open(pool.path) as other:
        handles = [owner(pool, one.alloc_pages().pfn)["handle"] for one in (pool, other)]
        return handles[0], handles[1]


def test_dedupe_between_processes(tracked: Pool, fork: Fork) -> None:
    """The same stack has one handle in all processes, and takes room once."""
    handles: set[int] = set()
    nr_stacks = []
    for _ in range(4):
        handles.update(fork(handle_in_child, tracked).result())
        nr_stacks.append(tracked.stats()["stack_depot_stacks"])
    assert len(handles) == 1
    assert len(set(nr_stacks)) == 1


def test_dedupe_at_once(tracked: Pool, fork: Fork) -> None:
    """Processes that meet the same new stacks at the same time agree on their handles."""
    found = [child.result() for child in [fork(many_stacks, tracked) for _ in range(4)]]
    assert all(one == found[0] for one in found)
    assert len(set(found[0])) == len(found[0]) == 500


def many_stacks(pool: Pool) -> list[int]:
    """Allocate from 500 functions; the handles of their stacks."""
    handles = []
    for number in itertools.count():
        space: dict[str, Any] = {"pool": pool}
        exec(f"def f{number}(): return pool.alloc_pages()", space)
        page = space[f"f{number}"]()
        handles.append(owner(pool, page.pfn)["handle"])
        pool.free_pages(page)
        if len(handles) == 500:
            return handles
    raise AssertionError
