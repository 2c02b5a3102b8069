"""Pool paths that are not text, and gates that another thread has closed."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pageownerfs import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.require("shm")

OPTIONS = {
    "size": 16 << 20,
    "movablecore": 0,
    "cma": 0,
    "stack_depth": 8,
    "stack_depot_bytes": 1 << 20,
}


@pytest.fixture
def name() -> Iterator[bytes]:
    """A path that is not text in any encoding."""
    path = f"/dev/shm/pageownerfs-test-{os.getpid()}-".encode() + b"\xff\xfe\n"
    yield path
    Path(os.fsdecode(path)).unlink(missing_ok=True)


def test_bytes(name: bytes) -> None:
    """Every part of the API accepts a path of any bytes."""
    text = os.fsdecode(name)
    with Pool.create(text, **OPTIONS) as pool, Pool.open(text) as other:
        assert Path(text).exists()
        page = pool.alloc_pages(0)
        other.free_pages(page)  # compares the paths
        with pytest.raises(OSError, match="not frozen") as caught:
            pool.thaw()
        assert caught.value.filename == text


@pytest.mark.parametrize("bad", ["/dev/shm/a\0b", "", b"/dev/shm/x", 5, None])
def test_bad(bad: object) -> None:
    """An invalid path is an error."""
    create: Callable[..., object] = Pool.create
    with pytest.raises((TypeError, ValueError, OSError)):
        create(bad, **OPTIONS)
    opens: Callable[..., object] = Pool.open
    with pytest.raises((TypeError, ValueError, OSError)):
        opens(bad)


def test_thaw_by_who_has_not_frozen(name: bytes) -> None:
    """The gate stays closed until the thread that closed it opens it."""
    text = os.fsdecode(name)
    with Pool.create(text, **OPTIONS) as pool, Pool.open(text) as other:
        pool.alloc_pages(0)
        pool.freeze()
        errors: list[OSError] = []

        def thaw() -> None:
            for mine in (pool, other):
                with pytest.raises(OSError, match="this thread has not frozen") as caught:
                    mine.thaw()
                errors.append(caught.value)

        thread = threading.Thread(target=thaw)
        thread.start()
        thread.join()
        with pytest.raises(OSError, match="this thread has not frozen"):
            other.thaw()
        assert [error.errno for error in errors] == [errno.EPERM] * 2
        child = os.fork()
        if child == 0:
            try:
                pool.thaw()
            except PermissionError:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        child = os.fork()
        if child == 0:
            other.alloc_pages(0)
            os._exit(0)
        time.sleep(0.3)
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
        pool.thaw()
        assert os.waitpid(child, 0)[1] == 0
        with pytest.raises(PermissionError):
            pool.thaw()
