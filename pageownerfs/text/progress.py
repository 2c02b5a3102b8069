"""How far the reading of an input is: one callback for all readers, one bar for all commands."""

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
Called now and then with the bytes read, the bytes there are, and the records so far.

Bytes are counted as they are in the file, packed or not. None: nobody knows how many there are.
"""

_DELAY_SEC: Final = 0.3


def no_progress(nr_bytes: int, total_bytes: int | None, nr_records: int) -> None:
    """Tell nobody."""
    del nr_bytes, total_bytes, nr_records


class ProgressBar:
    """A bar that appears once the reading takes long enough for somebody to wonder."""

    def __init__(
        self, name: str, file: _Output | None = None, *, columns: int | None = None
    ) -> None:
        """
        Begin now.

        :param name: stands before the bar
        :param file: where it is written; None: standard error
        :param columns: width; None: that of the terminal
        """
        self._name = name
        self._file = file
        self._columns = columns
        self._started = time.monotonic()
        self._bar: Any = None

    def show(self, nr_bytes: int, total_bytes: int | None, nr_records: int) -> None:
        """Show how far it is; a Progress."""
        del nr_records
        if self._bar is None:
            if time.monotonic() - self._started < _DELAY_SEC:
                return
            import tqdm  # noqa: PLC0415 - takes longer than the reading of most dumps

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
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
