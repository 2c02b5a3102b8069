"""Threads of one process on a pool: while one waits the others run, and one may close it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import pytest
from core_sources import NATIVE, core_sources

from pageownerfs import OutOfMemoryError, Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.require("shm")

# Does one operation in a thread while the pool is held. No thread releases the GIL voluntarily, so
# the main thread runs only if the other one waits without the GIL.
PROGRAM: Final = """
import os, signal, sys, threading, time
from pageownerfs import OutOfMemoryError, Pool

path, operation, then = sys.argv[1:]
sys.setswitchinterval(1000)
pool = Pool.open(path)
page = pool.alloc_pages(1)
pool.free_pages(pool.alloc_pages())
newcomer = Pool.open(path)  # no client of the pool yet
if operation == "out_of_memory":
    try:
        while True:
            pool.alloc_pages(4)
    except OutOfMemoryError:
        pass

def capture():
    return newcomer.capture_stack()

def freeze():
    newcomer.freeze()
    newcomer.thaw()
    return "thawed"

OPERATIONS = {
    "alloc_pages": lambda: pool.alloc_pages().order,
    "alloc_block": lambda: pool.alloc_pages(4).order,
    "first_alloc": lambda: newcomer.alloc_pages().order,
    "free_pages": lambda: pool.free_pages(page),
    "put_page": lambda: pool.put_page(page),
    "split_page": lambda: len(pool.split_page(page)),
    "drain_local_pages": pool.drain_local_pages,
    "close": pool.close,
    "out_of_memory": lambda: pool.alloc_pages(4),
    "check": newcomer.check,
    "recover_clients": newcomer.recover_clients,
    "freeze": freeze,
    "enable_page_owner": lambda: len(newcomer.enable_page_owner(capture, capture)),
}
results = []

def operate():
    try:
        results.append(repr(OPERATIONS[operation]()))
    except Exception as error:
        results.append(f"{type(error).__name__}: {error}")

def count_ticks():
    for _ in range(1000):
        time.sleep(0)

waiting = threading.Lock()

def interrupt():
    waiting.acquire()
    os.kill(os.getpid(), signal.SIGINT)

print("ready", flush=True)
sys.stdin.readline()
if then == "interrupt":
    waiting.acquire()
    threading.Thread(target=interrupt).start()
    waiting.release()  # it still has no GIL
    try:
        operate()
    except KeyboardInterrupt:
        results.append("KeyboardInterrupt")
    print("interrupted", *results, flush=True)
    sys.stdin.readline()
else:
    thread = threading.Thread(target=operate)
    thread.start()
    count_ticks()
    print("ticked", *results, flush=True)
    if then == "close":
        newcomer.close()
        closing = threading.Thread(target=pool.close)
        closing.start()
        count_ticks()
        print("closed", pool.closed, flush=True)
    sys.stdin.readline()
    thread.join()
    if then == "close":
        closing.join()
        for closed in (pool, newcomer):
            try:
                closed.all_zones()
            except ValueError as error:
                results.append(str(error))
    print(*results, sep="; ", flush=True)
"""


@pytest.fixture(scope="session")
def hold_pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile hold_pool.c with the core, without Python."""
    program = tmp_path_factory.mktemp("hold_pool") / "hold_pool"
    options = ["-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-pthread", f"-I{NATIVE}"]
    source = Path(__file__).with_name("hold_pool.c")
    subprocess.run(["cc", *options, "-o", program, source, *core_sources()], check=True)
    return program


@pytest.fixture
def held(hold_pool: Path) -> Callable[[Pool, str], contextlib.AbstractContextManager[None]]:
    """Return a context manager that holds a pool in one of the ways of hold_pool.c, or frozen."""

    @contextlib.contextmanager
    def context(pool: Pool, how: str) -> Iterator[None]:
        if how == "frozen":
            pool.freeze()
            try:
                yield
            finally:
                pool.thaw()
            return
        with subprocess.Popen(
            [hold_pool, pool.path, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield
            process.communicate()
        assert process.returncode == 0

    return context


class Program:
    """The program, from the moment that it is ready."""

    def __init__(self, pool: Pool, operation: str, then: str = "") -> None:
        """Start it."""
        command = [sys.executable, "-c", PROGRAM, pool.path, operation, then]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment
        )
        assert self.line() == "ready"

    def _pipe(self, pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe

    def line(self) -> str:
        """Return the next line that it prints."""
        return self._pipe(self.process.stdout).readline().strip()

    def go_on(self) -> None:
        """Let it continue."""
        stdin = self._pipe(self.process.stdin)
        stdin.write("\n")
        stdin.flush()

    def end(self) -> str:
        """Let it run to its end, and return the rest of its output."""
        text, errors = self.process.communicate("\n")
        assert (self.process.returncode, errors) == (0, "")
        return text.strip()


@pytest.fixture
def start() -> Iterator[Callable[..., Program]]:
    """Return a function that starts the program."""
    with contextlib.ExitStack() as stack:

        def start_program(pool: Pool, operation: str, then: str = "") -> Program:
            program = Program(pool, operation, then)
            stack.enter_context(program.process)
            stack.callback(program.process.kill)
            return program

        yield start_program


@pytest.mark.parametrize(
    ("how", "operation", "result"),
    [
        ("frozen", "alloc_pages", "0"),
        ("frozen", "first_alloc", "0"),
        ("frozen", "free_pages", "None"),
        ("frozen", "put_page", "None"),
        ("frozen", "split_page", "2"),
        ("frozen", "drain_local_pages", "None"),
        ("frozen", "close", "None"),
        ("zones", "alloc_block", "4"),
        ("zones", "free_pages", "None"),
        ("zones", "split_page", "2"),
        ("zones", "drain_local_pages", "None"),
        ("zones", "close", "None"),
        ("clients", "first_alloc", "0"),
        ("clients", "close", "None"),
        ("depot", "alloc_pages", "0"),
        ("operation", "out_of_memory", "OutOfMemoryError"),
    ],
)
def test_other_threads_go_on(
    tracked: Pool,
    *,
    start: Callable[..., Program],
    held: Callable[[Pool, str], contextlib.AbstractContextManager[None]],
    how: str,
    operation: str,
    result: str,
) -> None:
    """While a thread waits for other processes, another thread of its process counts to 1000."""
    program = start(tracked, operation)
    with held(tracked, how):
        program.go_on()
        assert program.line() == "ticked"
    assert program.end().startswith(result)
    assert tracked.recover_clients() <= 2
    assert tracked.check() == []


def test_who_knocks_stands_still(
    pool: Pool, held: Callable[[Pool, str], contextlib.AbstractContextManager[None]]
) -> None:
    """A client that begins an operation while the pool is frozen keeps its lists in order."""
    with held(pool, "gate"):
        for _ in range(100):
            assert pool.check() == []


def test_who_knocks_gives_its_pages(
    pool: Pool, held: Callable[[Pool, str], contextlib.AbstractContextManager[None]]
) -> None:
    """No allocation fails while a client has free pages on its lists, whatever it is doing."""
    for _ in range(20):
        pages = []
        with held(pool, "gate"):
            with contextlib.suppress(OutOfMemoryError):
                while True:
                    pages.append(pool.alloc_pages())
            assert sum(client.nr_pcp for client in pool.clients) == 0
        pool.recover_clients()
        for page in pages:
            pool.free_pages(page)


@pytest.mark.parametrize(
    ("how", "operation"), [("frozen", "alloc_pages"), ("zones", "free_pages")]
)
def test_interrupted(
    tracked: Pool,
    start: Callable[..., Program],
    held: Callable[[Pool, str], contextlib.AbstractContextManager[None]],
    how: str,
    operation: str,
) -> None:
    """Ctrl-C ends the wait of the main thread, and nothing is allocated or freed."""
    program = start(tracked, operation, "interrupt")
    before = tracked.stats()
    with held(tracked, how):
        program.go_on()
        assert program.line() == "interrupted KeyboardInterrupt"
    after = tracked.stats()
    assert (after.pgalloc, after.pgfree) == (before.pgalloc, before.pgfree)
    program.end()


@pytest.mark.parametrize(
    ("operation", "result"),
    [
        ("check", "[]"),
        ("recover_clients", "0"),
        ("freeze", "'thawed'"),
        ("enable_page_owner", "3"),
        ("alloc_pages", "ValueError: the pool is closed"),
        ("free_pages", "ValueError: the pool is closed"),
        ("split_page", "ValueError: the pool is closed"),
    ],
)
def test_closed_meanwhile(
    pool: Pool,
    *,
    start: Callable[..., Program],
    held: Callable[[Pool, str], contextlib.AbstractContextManager[None]],
    operation: str,
    result: str,
) -> None:
    """A method that runs when another thread closes the pool still finishes."""
    program = start(pool, operation, "close")
    with held(pool, "frozen"):
        program.go_on()
        assert program.line() == "ticked"
        assert program.line() == "closed True"
    assert program.end() == f"{result}; the pool is closed; the pool is closed"
    pool.recover_clients()
    assert pool.check() == []


# Threads call methods that release the GIL until the pool is closed, which is at once.
STORM: Final = """
import sys, threading
from pageownerfs import Pool

def call(method, started):
    started.release()
    try:
        while True:
            method()
    except ValueError:
        pass

for _ in range(200):
    pool = Pool.open(sys.argv[1])
    started = threading.Semaphore(0)
    methods = (pool.check, pool.recover_clients, pool.report_free_pages, pool.stack_counts)
    threads = [threading.Thread(target=call, args=(method, started)) for method in methods]
    for thread in threads:
        thread.start()
    for thread in threads:
        started.acquire()
    pool.close()
    for thread in threads:
        thread.join()
print("done")
"""


@pytest.mark.slow
def test_closed_under_threads(tracked: Pool) -> None:
    """Wherever threads are when the pool is closed, they get a result or ValueError."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", STORM, tracked.path],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
    assert tracked.check() == []


def test_close_thaws(pool: Pool) -> None:
    """A thread that closes a pool it has frozen lets the other clients continue."""
    with Pool.open(pool.path) as other:
        other.freeze()
        other.close()
        pool.free_pages(pool.alloc_pages())
        with pytest.raises(ValueError, match="closed"):
            other.thaw()
