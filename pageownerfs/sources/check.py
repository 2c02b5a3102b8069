"""Checks of ``pageownerfs doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from pageownerfs.errors import MountError

if TYPE_CHECKING:
    from collections.abc import Callable

OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "fail"


class Check(NamedTuple):
    """Result of one check."""

    name: str
    """What was checked."""
    state: str
    """ok, warn or fail."""
    text: str
    """What was found."""
    advice: str = ""
    """What to do about it; empty if nothing."""


def look(name: str, check: Callable[[], object], found: str, failed: str) -> Check:
    """
    Run a check that a mount runs, too.

    :param check: raises MountError on failure; its message ends with a colon and what to do
    :param found: text of the result if the check succeeds
    :param failed: state of the result if it fails: WARN or FAIL
    """
    try:
        check()
    except MountError as error:
        text, _, advice = str(error).rpartition(": ")
        return Check(name, failed, text, advice)
    return Check(name, OK, found)
