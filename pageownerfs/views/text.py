"""A small text as a file, made whenever a reader is at its start, as by a seq_file."""

from __future__ import annotations

import errno
import threading
import time
from typing import TYPE_CHECKING, Final

from pageownerfs.errors import PageOwnerOffError
from pageownerfs.mm.vmstat import STAT_INTERVAL_NSEC

from .view import ViewError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pageownerfs.mm.need import Need
    from pageownerfs.sources.base import Source

_FOREVER_NSEC: Final = 1 << 63


class TextFile:
    """
    An open file whose complete text is in memory.

    A read at offset 0 makes the text. Reads at later offsets use the same text, so that one pass
    over the file sees one state. If tracking is off by then, the text is empty.
    """

    def __init__(
        self, make: Callable[[], bytes], store: Callable[[bytes], None] | None = None
    ) -> None:
        """
        Open a file.

        :param make: makes the text
        :param store: takes the data of a write; None: a write fails with EINVAL
        """
        self._make = make
        self._store = store
        self._lock = threading.Lock()
        self._text: bytes | None = None

    def read_into(self, view: memoryview, offset: int, /) -> int:
        """Copy the text at ``offset`` into ``view``; return the number of bytes."""
        with self._lock:
            if offset == 0 or self._text is None:
                try:
                    self._text = self._make()
                except PageOwnerOffError:
                    self._text = b""
            data = self._text[offset : offset + len(view)]
        view[: len(data)] = data
        return len(data)

    def write(self, data: bytes, offset: int) -> int:
        """Take the data of a write() as a value; as in debugfs, the offset is ignored."""
        del offset
        if self._store is None:
            raise ViewError(errno.EINVAL)
        self._store(data)
        return len(data)

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


class TextView:
    """A file whose text a function makes."""

    def __init__(
        self,
        source: Source,
        make: Callable[[], bytes],
        *needs: Need,
        mode: int = 0o400,
        measure: Callable[[], int] | None = None,
        store: Callable[[bytes], None] | None = None,
    ) -> None:
        """
        Make a file.

        :param source: the source of the text
        :param make: makes the text
        :param needs: what the source must have; otherwise the file is absent
        :param mode: permission bits
        :param measure: returns the length of the text, if there is a cheaper way than making it
        :param store: takes the data of a write; None: a write fails with EINVAL
        """
        self.mode = mode
        self._source = source
        self._make = make
        self._needs = needs
        self._measure = measure or (lambda: len(make()))
        self._store = store
        self._size = 0
        self._size_until_nsec = 0

    def absent(self) -> str | None:
        """Return what the source lacks."""
        reasons = (self._source.lacks(need) for need in self._needs)
        return next((reason for reason in reasons if reason is not None), None)

    def size(self) -> int:
        """Return the length of the text; the value is reused for STAT_INTERVAL_NSEC."""
        if time.monotonic_ns() >= self._size_until_nsec:
            self._size = self._measure()
            # A writable file is small, and its change must show at once: don't reuse its size.
            if self._store is None:
                until = time.monotonic_ns() + STAT_INTERVAL_NSEC
                self._size_until_nsec = until if self._source.changes else _FOREVER_NSEC
        return self._size

    def open(self) -> TextFile:
        """Open the file."""
        return TextFile(self._make, self._store)
