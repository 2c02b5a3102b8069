"""Progress of reading an input: one callback for all readers, one bar for all commands."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:

    class _Output(Protocol):
        def write(self, text: str, /) -> object: ...
        def flush(self) -> object: ...


Progress = Callable[[int, int | None, int], None]
"""
A callback that is called now and then with bytes read, total bytes, and records read.

Bytes are those of the file, compressed or not. The total is None if it is unknown.
"""

_DELAY_SEC: Final = 0.3


def no_progress(nr_bytes: int, total_bytes: int | None, nr_records: int) -> None:
    """Ignore the progress."""
    del nr_bytes, total_bytes, nr_records


class ProgressBar:
    """A progress bar that appears once reading takes longer than a moment."""

    def __init__(
        self, name: str, file: _Output | None = None, *, columns: int | None = None
    ) -> None:
        """
        Start the clock; the bar appears later.

        :param name: text in front of the bar
        :param file: where to write it; None for standard error
        :param columns: width; None for the width of the terminal
        """
        self._name = name
        self._file = file
        self._columns = columns
        self._started = time.monotonic()
        self._bar: Any = None

    def show(self, nr_bytes: int, total_bytes: int | None, nr_records: int) -> None:
        """Update the bar; a Progress callback."""
        del nr_records
        if self._bar is None:
            if time.monotonic() - self._started < _DELAY_SEC:
                return
            import tqdm  # noqa: PLC0415 - takes longer than reading most dumps

            self._bar = tqdm.tqdm(
                desc=self._name,
                total=total_bytes,
                unit="B",
                unit_scale=True,
                leave=False,
                ncols=self._columns,
                file=self._file,
            )
        self._bar.update(nr_bytes - self._bar.n)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
