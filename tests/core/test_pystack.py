"""Stacks: a record's handle leads to the stack that Python reports for that place."""

from __future__ import annotations

import functools
import itertools
import sys
import threading
import traceback
from types import FunctionType
from typing import TYPE_CHECKING, Any

import pytest

from pageownerfs.client import Pool
from pageownerfs.mm.stack_depot import Frame, format_stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pageownerfs import _native
    from pageownerfs.mm.page_ext import PageOwner

    Fork = Callable[..., Any]

pytestmark = pytest.mark.require("shm")


def owner(pool: Pool, pfn: int) -> PageOwner:
    """Return the record of a page."""
    record = pool.page_info(pfn).page_owner
    assert record is not None
    return record


def frames(pool: Pool, page: _native.Page) -> list[Frame]:
    """Return the stack of a page's allocation."""
    return [Frame(*frame) for frame in pool.depot_stack(owner(pool, page.pfn).handle)]


def real_frames(error: BaseException, depth: int) -> list[Frame]:
    """Return Python's own view of the stack that raised an exception, innermost first."""
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
    """Ways to be called: each calls ``alloc(order)`` from another kind of frame."""

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
        return (lambda: alloc(order))()  # noqa: PLC3002 - this is the point

    @staticmethod
    def comprehension(alloc: Callable[[int], Any], order: int) -> Any:
        """Call from a comprehension."""
        return [alloc(order) for _ in range(1)][0]  # noqa: RUF015 - this is the point

    @staticmethod
    def executed(alloc: Callable[[int], Any], order: int) -> Any:
        """Call from code without a file and without a module name."""
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

    # Once it has seen these often, the interpreter enters them without C in between.

    @staticmethod
    def constructor(alloc: Callable[[int], Any], order: int) -> Any:
        """Call from a constructor."""

        class Made:
            def __init__(self, call: Callable[[], Any]) -> None:
                self.page = call()

        for call in often(lambda: alloc(order)):
            made = Made(call)
        return made.page

    @staticmethod
    def attribute(alloc: Callable[[int], Any], order: int) -> Any:
        """Call from a property."""

        class Holder:
            call: Callable[[], Any]

            @property
            def page(self) -> Any:
                return self.call()

        holder = Holder()
        for holder.call in often(lambda: alloc(order)):
            page = holder.page
        return page

    @staticmethod
    def item(alloc: Callable[[int], Any], order: int) -> Any:
        """Call from an object's __getitem__()."""

        class Items:
            def __getitem__(self, call: Callable[[], Any]) -> Any:
                return call()

        items = Items()
        for call in often(lambda: alloc(order)):
            page = items[call]
        return page

    @staticmethod
    def loop(alloc: Callable[[int], Any], order: int) -> Any:
        """Call from a generator that another one passes to a loop."""

        def inner(calls: list[Callable[[], Any]]) -> Iterator[Any]:
            for call in calls:
                yield call()

        def outer(calls: list[Callable[[], Any]]) -> Iterator[Any]:
            yield from inner(calls)

        for value in outer(often(lambda: alloc(order))):
            page = value
        return page


def often(call: Callable[[], Any]) -> list[Callable[[], Any]]:
    """Return a hundred calls that do nothing, followed by this one."""
    return [*[int] * 100, call]


WAYS = [
    "method",
    "generator",
    "coroutine",
    "lambda_",
    "comprehension",
    "executed",
    "callback",
    "recursive",
    "constructor",
    "attribute",
    "item",
    "loop",
]


@pytest.mark.parametrize("depth", [1, 16, 64])
@pytest.mark.parametrize("way", WAYS)
def test_stack(make_pool: Callable[..., Pool], way: str, depth: int) -> None:
    """A stack equals Python's own traceback, innermost first, cut at the depth."""
    pool = make_pool(32, stack_depth=depth, page_owner=True)
    call = getattr(Caller(), way)

    def alloc(order: int) -> Any:
        return pool.alloc_pages(order)

    results: list[Any] = []
    for order in (2, 11):  # the same calls; with the second order the allocator raises
        try:
            results.append(call(alloc, order))
        except ValueError as error:
            results.append(real_frames(error, depth))
    page, expected = results
    assert frames(pool, page) == expected
    assert len(expected) == depth or depth == 64
    assert expected[0].name == "test_stack.<locals>.alloc"


def test_free_stack(tracked: Pool) -> None:
    """A free records its own stack."""
    page = tracked.alloc_pages()
    tracked.free_pages(page)
    line = sys._getframe().f_lineno - 1
    (first, *_) = tracked.depot_stack(owner(tracked, page.pfn).free_handle)
    assert (first[0], first[5]) == ("test_free_stack", line)


def test_stack_at_a_shallow_call(tracked: Pool) -> None:
    """A thread's stack has no more frames than there are."""
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
    """Calls on two lines are two stacks; the same call again is the same stack."""
    handles = []
    for _ in range(3):
        one = tracked.alloc_pages()
        other = tracked.alloc_pages()
        handles.append((owner(tracked, one.pfn).handle, owner(tracked, other.pfn).handle))
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
    """A module whose name is missing or not a string is left out."""
    space: dict[str, Any] = {"pool": tracked} | ({} if module is None else {"__name__": module})
    space |= {"__builtins__": {}} if module is None else {}
    exec("page = pool.alloc_pages()", space)
    assert frames(tracked, space["page"])[0].module == ""


def handle_in_child(pool: Pool) -> tuple[int, int]:
    """Allocate; return the handles of the stack through this attachment and a new one."""
    with Pool.open(pool.path) as other:
        handles = [owner(pool, one.alloc_pages().pfn).handle for one in (pool, other)]
        return handles[0], handles[1]


def test_dedupe_between_processes(tracked: Pool, fork: Fork) -> None:
    """The same stack has one handle in all processes and takes room once."""
    handles: set[int] = set()
    nr_stacks = []
    for _ in range(4):
        handles.update(fork(handle_in_child, tracked).result())
        nr_stacks.append(tracked.stats().stack_depot_stacks)
    assert len(handles) == 1
    assert len(set(nr_stacks)) == 1


def test_dedupe_at_once(tracked: Pool, fork: Fork) -> None:
    """Processes that see the same new stacks at the same time agree on their handles."""
    found = [child.result() for child in [fork(many_stacks, tracked) for _ in range(4)]]
    assert all(one == found[0] for one in found)
    assert len(set(found[0])) == len(found[0]) == 500


def many_stacks(pool: Pool) -> list[int]:
    """Allocate from 500 functions and return the handles of their stacks."""
    handles = []
    for number in itertools.count():
        space: dict[str, Any] = {"pool": pool}
        exec(f"def f{number}(): return pool.alloc_pages()", space)
        page = space[f"f{number}"]()
        handles.append(owner(pool, page.pfn).handle)
        pool.free_pages(page)
        if len(handles) == 500:
            return handles
    raise AssertionError
