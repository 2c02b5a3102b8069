"""``sorted/``: the output of page_owner_sort for page_owner, made when a file is read."""

from __future__ import annotations

import functools
import mmap
from typing import TYPE_CHECKING, Final

from pageownerfs.page_owner_sort import (
    ALLOCATOR,
    MODULE,
    NAME,
    PAGES,
    PID,
    STACKTRACE,
    TGID,
    TIMES,
    Rules,
    SortKey,
    format_groups,
    group_text,
)

from .text import TextView

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pageownerfs.mm.need import Need
    from pageownerfs.sources.base import Source

    from .record_text import RecordText
    from .view import Node

RULES: Final[dict[str, tuple[SortKey, Need]]] = {
    "by_times": (SortKey(TIMES, descending=True), "owners"),  # -t
    "by_memory": (SortKey(PAGES, descending=True), "owners"),  # -m
    "by_pid": (SortKey(PID), "pid"),  # -p
    "by_tgid": (SortKey(TGID), "tgid"),  # -P
    "by_name": (SortKey(NAME), "tgid"),  # -n
    "by_stacktrace": (SortKey(STACKTRACE), "owners"),  # -s
    "by_allocator": (SortKey(ALLOCATOR), "owners"),  # --sort=allocator
    "by_module": (SortKey(MODULE), "owners"),  # -M
}
"""Sort key of each file, with the page_owner_sort option it equals, and what the file needs."""

_READ_BYTES: Final = 512 << 10


def nodes(source: Source, text: RecordText) -> dict[str, Node]:
    """Return the files by path."""

    def sort(key: SortKey) -> bytes:
        source.update()
        rules = Rules(sort=[key])
        return b"".join(format_groups(group_text(_read(text), rules, "page_owner"), rules))

    # All files have the same groups in different orders, and so the same size.
    one = TextView(source, functools.partial(sort, RULES["by_times"][0]), "owners")
    return {
        f"sorted/{name}": TextView(
            source, functools.partial(sort, key), "owners", need, measure=one.size
        )
        for name, (key, need) in RULES.items()
    }


def _read(text: RecordText) -> Iterator[memoryview]:
    # One buffer for all parts: malloc() would keep the memory of a buffer for each part.
    buffer = memoryview(mmap.mmap(-1, _READ_BYTES))
    reader, offset = text.renderer().reader(), 0
    while nr_bytes := reader.read_into(buffer, offset):
        offset += nr_bytes
        yield buffer[:nr_bytes]
