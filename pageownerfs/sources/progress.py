"""How far the reading of a file is."""

from collections.abc import Callable

Progress = Callable[[int, int | None], None]
"""Called now and then with the bytes read, packed ones, and those there are, None: not known."""


def no_progress(nr_bytes: int, total_bytes: int | None) -> None:
    """Tell nobody."""
    del nr_bytes, total_bytes
