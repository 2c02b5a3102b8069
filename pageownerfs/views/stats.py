"""``stats``: the counters of the source, one ``name value`` line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .text import TextFile

if TYPE_CHECKING:
    from .view import Source


class StatsView:
    """The file ``stats``, in the shape of /proc/vmstat; mode 0400."""

    path = "/stats"
    mode = 0o400

    def __init__(self, source: Source) -> None:
        """Show the counters of ``source``."""
        self._source = source

    def present(self) -> bool:
        """Tell that it is always there."""
        return True

    def size(self) -> int:
        """Length of the text now."""
        return len(self._text())

    def open(self) -> TextFile:
        """Open it."""
        return TextFile(self._text)

    def _text(self) -> bytes:
        lines = [f"{name} {value}\n" for name, value in self._source.stats().items()]
        return "".join(lines).encode()
