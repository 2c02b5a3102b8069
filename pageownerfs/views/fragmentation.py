"""``buddyinfo`` and ``extfrag/``: free blocks by order, and what they say (mm/vmstat.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pageownerfs.mm.vmstat import format_buddyinfo, format_extfrag_index, format_unusable_index

from .text import TextView

if TYPE_CHECKING:
    from .view import Node, Source


def nodes(source: Source) -> dict[str, Node]:
    """Give the files, readable by all as the kernel's."""
    formats = {
        "buddyinfo": format_buddyinfo,
        "extfrag/extfrag_index": format_extfrag_index,
        "extfrag/unusable_index": format_unusable_index,
    }
    return {
        path: TextView(
            source,
            lambda make=make: make(source.buddyinfo()).encode(),  # type: ignore[misc]
            "free_areas",
            mode=0o444,
        )
        for path, make in formats.items()
    }
