"""Events of a recorded trace whose text is in memory."""

from __future__ import annotations

import os
from typing import NamedTuple

from pageownerfs.sources.trace.events import CHUNK_BYTES, Counts, Event, read_events
from pageownerfs.text.input import Input


class Parsed(NamedTuple):
    """The result of parsing a text."""

    events: list[Event]
    counts: Counts


def parse(text: bytes, until_nsec: int | None = None, chunk_bytes: int = CHUNK_BYTES) -> Parsed:
    """Parse a text that is in memory."""
    fd = os.memfd_create("trace")
    try:
        os.write(fd, text)
        os.lseek(fd, 0, os.SEEK_SET)
        counts = Counts()
        source = Input("text", fd)
        return Parsed(
            list(read_events(source, counts, until_nsec, chunk_bytes=chunk_bytes)), counts
        )
    finally:
        os.close(fd)
