"""Declare mount options, ``-o name=value``; options that several sources share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pageownerfs.mm.kstrtox import kstrtobool

if TYPE_CHECKING:
    from collections.abc import Callable


class Option(NamedTuple):
    """An option with a value."""

    name: str
    """Name in ``-o name=value``."""
    field: str
    """Name of the value in the source's options."""
    parse: Callable[[str], Any]
    """Parses the value; ValueError says what is wrong with the text."""
    metavar: str
    """Placeholder of the value in ``--help``."""
    help: str
    """A line for ``--help``."""
    implied: str | None = None
    """Value of ``-o name`` without a value; None if the value is required."""
    verb_option: bool = False
    """Whether ``pageownerfs mount`` also takes it as ``--name VALUE``."""


def number_parser(low: int, high: int, what: str) -> Callable[[str], int]:
    """
    Return a parser of decimal numbers.

    :param low: smallest number
    :param high: largest number
    :param what: description of the number for messages, with its article
    """

    def parse(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise ValueError(f"{text!r} is not {what} from {low} to {high}")
        return int(text)

    return parse


def _parse_always_on(text: str) -> bool:
    if not kstrtobool(text):
        raise ValueError("a recording always has owners: omit the option, or write page_owner=on")
    return True


PAGE_OWNER = Option("page_owner", "page_owner", kstrtobool, "on|off", "track owners (off)")
"""The option of a source that can also be switched on later."""

PAGE_OWNER_RECORDED = Option(
    "page_owner", "page_owner", _parse_always_on, "on", "always on: owners are recorded"
)
"""The option of a source whose owners were recorded."""
