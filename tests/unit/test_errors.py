"""Errors: their classes, their data, and the exit codes of commands."""

from __future__ import annotations

import pickle
import re
from typing import TYPE_CHECKING

import pytest

from pageownerfs import errors
from pageownerfs.errors import BadPageError, NotAPoolError, OutOfMemoryError, PageOwnerError

if TYPE_CHECKING:
    from collections.abc import Iterator

FREE = {"DMA": [0] * 11, "Normal": [1, *[0] * 10]}


def error_classes(base: type[PageOwnerError] = PageOwnerError) -> Iterator[type[PageOwnerError]]:
    """Yield all error classes."""
    yield base
    for derived in base.__subclasses__():
        yield from error_classes(derived)


def test_exit_codes_are_documented_once() -> None:
    """The module's table has each class with its own code, and no class is missing."""
    rows = re.findall(r"^(\d+) .*\((\w+)\)$", errors.__doc__ or "", re.MULTILINE)
    documented = {name: int(code) for code, name in rows}
    assert documented == {cls.__name__: cls.exit_code for cls in error_classes()}
    assert len(set(documented.values())) == len(documented)
    assert not {0, 130} & set(documented.values())


@pytest.mark.parametrize("cls", list(error_classes()), ids=lambda cls: cls.__name__)
def test_one_base(cls: type[PageOwnerError]) -> None:
    """PageOwnerError is the base of all errors, and none is an OSError by accident."""
    assert issubclass(cls, PageOwnerError)
    assert not issubclass(cls, OSError)


def test_out_of_memory() -> None:
    """Running out of memory is a MemoryError with the order, the mask and what is free."""
    error = OutOfMemoryError("page allocation failure: order:3", 3, 0xCC0, FREE)
    assert isinstance(error, MemoryError)
    assert (str(error), error.order, error.gfp_mask, error.free) == (
        "page allocation failure: order:3",
        3,
        0xCC0,
        FREE,
    )


def test_bad_page() -> None:
    """A bad page is a ValueError with the PFN."""
    error = BadPageError("page 0x1a2b: freed twice", 0x1A2B)
    assert isinstance(error, ValueError)
    assert (str(error), error.pfn) == ("page 0x1a2b: freed twice", 0x1A2B)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(OutOfMemoryError("no page left", 3, 0xCC0, FREE), id="out of memory"),
        pytest.param(BadPageError("freed twice", 7), id="bad page"),
        pytest.param(NotAPoolError("/mnt is no pool"), id="message only"),
    ],
)
def test_errors_travel_between_processes(error: PageOwnerError) -> None:
    """An error in a worker arrives intact when multiprocessing passes it on."""
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert copy.args == error.args
    assert vars(copy) == vars(error)
