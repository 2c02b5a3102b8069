"""A line that shows how far the reading of a file is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_DELAY_SEC: Final = 0.3
_COLUMNS: Final = 78


class _Lines:
    """What tqdm takes for a terminal: it writes a line after a carriage return."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show

    def write(self, text: str) -> None:
        line = text.replace("\r", "").strip()
        if line:
            self._show(line)

    def flush(self) -> None:
        pass


class ProgressBar:
    """Shown once it takes long enough for somebody to wonder."""

    def __init__(self, show: Callable[[str], None]) -> None:
        """
        Begin now.

        :param show: shows a line in place of the last one
        """
        self._lines = _Lines(show)
        self._started = time.monotonic()
        self._bar: Any = None

    def show(self, nr_bytes: int, total_bytes: int | None) -> None:
        """Tell how many bytes were read, of how many."""
        if self._bar is None:
            if time.monotonic() - self._started < _DELAY_SEC:
                return
            import tqdm  # noqa: PLC0415 - takes longer than the reading of most dumps

            self._bar = tqdm.tqdm(
                desc="reading",
                total=total_bytes,
                unit="B",
                unit_scale=True,
                ncols=_COLUMNS,
                file=self._lines,
            )
        self._bar.update(nr_bytes - self._bar.n)
