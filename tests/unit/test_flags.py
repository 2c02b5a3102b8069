"""The rule that turns flag words into names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageownerfs.mm.flags import FlagName, format_flags

NAMES = (FlagName(0x6, "pair"), FlagName(0x2, "low"), FlagName(0x6, "never"), FlagName(0x1, "one"))


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        pytest.param(0x0, "", id="nothing"),
        pytest.param(0x6, "pair", id="several bits at once"),
        pytest.param(0x2, "low", id="part of them"),
        pytest.param(0x4, "0x4", id="the part without a name"),
        pytest.param(0x7, "pair|one", id="table order, not bit order"),
        pytest.param(0x1D, "one|0x1c", id="all that is left is one number"),
    ],
)
def test_format_flags(flags: int, text: str) -> None:
    """A row is printed if all its bits are still there, and removes them."""
    assert format_flags(flags, NAMES) == text


@given(st.integers(0, 2**64 - 1))
def test_nothing_is_lost(flags: int) -> None:
    """The names and the number in a text together equal the flags."""
    values = {name: mask for mask, name in NAMES}
    parts = [part for part in format_flags(flags, NAMES).split("|") if part]
    assert sum(values.get(part) or int(part, 16) for part in parts) == flags
