"""``stats``: the counters of the source, one ``name value`` per line, as in /proc/vmstat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .text import TextView

if TYPE_CHECKING:
    from pageownerfs.sources.base import Source

    from .view import Node


def nodes(source: Source) -> dict[str, Node]:
    """Return the file."""

    def text() -> bytes:
        return "".join(f"{name} {value}\n" for name, value in source.stats().items()).encode()

    return {"stats": TextView(source, text)}
