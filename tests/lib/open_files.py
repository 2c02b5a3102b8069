"""Open files of views, without a mount."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pageownerfs.views import OpenFile


def read_at(file: OpenFile, size: int, offset: int) -> bytes:
    """Do what one read() of that size does."""
    buffer = bytearray(size)
    return bytes(buffer[: file.read_into(memoryview(buffer), offset)])
