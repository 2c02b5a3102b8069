"""Pages by stack where nobody keeps count: found by a pass over the table."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pageownerfs._native import Table


class StackCounts:
    """
    Counts the pages of each stack, and remembers which stacks there were.

    The kernel keeps a list of stacks, in which the one that was seen first most recently comes
    first. Here that is when the oldest page of a stack that a pass has met was allocated.
    """

    def __init__(self) -> None:
        """Know no stack yet."""
        self._first_seen_nsec: dict[int, int] = {}
        self._lock = threading.Lock()

    def count(self, table: Table) -> list[tuple[int, int]]:
        """
        Make a pass.

        :return: handle and nr_base_pages of each stack that was met, now or in an earlier pass
        """
        counts: dict[int, int] = {}
        with self._lock:
            first_seen = self._first_seen_nsec
            for handle, nr_base_pages, ts_nsec in table.count_stacks():
                counts[handle] = nr_base_pages
                first_seen.setdefault(handle, ts_nsec)
            handles = sorted(first_seen, key=first_seen.__getitem__, reverse=True)
        return [(handle, counts.get(handle, 0)) for handle in handles]
