"""Count pages by stack by a pass over a table, for sources that keep no counters."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pageownerfs._native import Table


class StackCounts:
    """
    Count the pages of each stack, and remember the stacks of earlier passes.

    The kernel keeps a list of stacks, newest first. Here, a stack is as old as its oldest page in
    the first pass that found the stack.
    """

    def __init__(self) -> None:
        """Start without stacks."""
        self._first_seen_nsec: dict[int, int] = {}
        self._lock = threading.Lock()

    def count(self, table: Table) -> list[tuple[int, int]]:
        """
        Make a pass over a table.

        :return: handle and nr_base_pages of each stack found in this pass or an earlier one,
            newest first
        """
        counts: dict[int, int] = {}
        with self._lock:
            first_seen = self._first_seen_nsec
            for handle, nr_base_pages, ts_nsec in table.count_stacks():
                counts[handle] = nr_base_pages
                first_seen.setdefault(handle, ts_nsec)
            handles = sorted(first_seen, key=first_seen.__getitem__, reverse=True)
        return [(handle, counts.get(handle, 0)) for handle in handles]
