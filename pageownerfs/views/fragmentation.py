"""``buddyinfo`` and ``extfrag/``: free blocks by order, and fragmentation (mm/vmstat.c)."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from pageownerfs.mm.vmstat import format_buddyinfo, format_extfrag_index, format_unusable_index

from .text import TextView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pageownerfs.mm.vmstat import ZoneRow
    from pageownerfs.sources.base import Source

    from .view import Node


def nodes(source: Source) -> dict[str, Node]:
    """Return the files; all users may read them, as in the kernel."""

    def text(make: Callable[[Iterable[ZoneRow]], str]) -> bytes:
        return make(source.buddyinfo()).encode()

    formats = {
        "buddyinfo": format_buddyinfo,
        "extfrag/extfrag_index": format_extfrag_index,
        "extfrag/unusable_index": format_unusable_index,
    }
    return {
        path: TextView(source, functools.partial(text, make), "free_areas", mode=0o444)
        for path, make in formats.items()
    }
