"""What ``pageownerfs doctor`` tells of one thing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from pageownerfs.errors import MountError

if TYPE_CHECKING:
    from collections.abc import Callable

OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "fail"


class Check(NamedTuple):
    """What was found of one thing."""

    name: str
    """The thing."""
    state: str
    """ok, warn or fail."""
    text: str
    """What was found."""
    advice: str = ""
    """What to do; empty if nothing."""


def look(name: str, check: Callable[[], object], found: str, failed: str) -> Check:
    """
    Make a check that a mount makes, too.

    :param check: raises MountError, whose line ends with a colon and what to do
    :param found: text where it raises nothing
    :param failed: state where it does: WARN or FAIL
    """
    try:
        check()
    except MountError as error:
        text, _, advice = str(error).rpartition(": ")
        return Check(name, failed, text, advice)
    return Check(name, OK, found)
