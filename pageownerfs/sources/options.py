"""Options of a mount, ``-o name=value``: how one is declared, and what several sources share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pageownerfs.mm.kstrtox import kstrtobool

if TYPE_CHECKING:
    from collections.abc import Callable


class Option(NamedTuple):
    """An option that has a value."""

    name: str
    """As in ``-o name=value``."""
    field: str
    """Name of the value among the options of the source."""
    parse: Callable[[str], Any]
    """Gives the value; ValueError says what is wrong with the text."""
    metavar: str
    """What stands for the value in ``--help``."""
    help: str
    """A line for ``--help``."""
    implied: str | None = None
    """The text that ``-o name`` alone stands for; None: the value must be given."""
    verb_option: bool = False
    """``pageownerfs mount`` takes it as ``--name VALUE``, too."""


def number_parser(low: int, high: int, what: str) -> Callable[[str], int]:
    """
    Make a parser of decimal numbers.

    :param low: the smallest number
    :param high: the largest
    :param what: names such a number, with its article
    """

    def parse(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise ValueError(f"{text!r} is not {what} from {low} to {high}")
        return int(text)

    return parse


def _parse_always_on(text: str) -> bool:
    if not kstrtobool(text):
        raise ValueError("what is recorded has owners: leave it out, or write page_owner=on")
    return True


PAGE_OWNER = Option("page_owner", "page_owner", kstrtobool, "on|off", "track owners (off)")
"""Of a source that can be switched on later."""

PAGE_OWNER_RECORDED = Option(
    "page_owner", "page_owner", _parse_always_on, "on", "always: its owners are recorded"
)
"""Of a source that is nothing but owners."""
