"""The bar that shows how far an input has been read."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from pageownerfs.text import progress
from pageownerfs.text.progress import ProgressBar

if TYPE_CHECKING:
    import pytest


def test_bar_appears_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written before the delay; then a line appears, which close() clears."""
    monkeypatch.setattr(progress, "_DELAY_SEC", 1e9)
    output = io.StringIO()
    bar = ProgressBar("reading", output, columns=60)
    bar.show(1, 100, 1)
    assert output.getvalue() == ""
    monkeypatch.setattr(progress, "_DELAY_SEC", 0)
    bar.show(50, 100, 2)
    assert output.getvalue().startswith("\rreading:   0%|")
    bar.close()
    assert output.getvalue().rpartition("\r")[0].rpartition("\r")[2].strip() == ""


def test_unknown_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a pipe the bar shows bytes, but no fraction."""
    monkeypatch.setattr(progress, "_DELAY_SEC", 0)
    output = io.StringIO()
    bar = ProgressBar("reading", output, columns=60)
    bar.show(1 << 20, None, 5)
    bar.close()
    assert output.getvalue().startswith("\rreading: 0.00B")
    assert "%" not in output.getvalue()
