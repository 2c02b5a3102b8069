"""Inputs of text: a file, the mount, debugfs or a pipe, plain or compressed."""

from __future__ import annotations

import io
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from pageownerfs import _native
from pageownerfs.errors import PageOwnerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Buffer

STDIN: Final = "-"
WINDOW_BYTES: Final = 512 << 10
"""Bytes of text in memory at a time unless a record is longer; chosen to fit a core's cache."""

_MIN_READ_BYTES: Final = 64 << 10
"""Minimum size of a read: the kernel's page_owner fails with ENOMEM if a record does not fit."""

_GZIP: Final = b"\x1f\x8b"
_XZ: Final = b"\xfd7zXZ\0"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
# Modules whose exceptions have no common base class: zlib.error, LZMAError, ZstdError.
_UNPACKERS: Final = {"zlib", "_lzma", "backports", "compression"}
# File systems that generate a file as it is read, so that the text at an offset changes. Magic
# numbers of linux/magic.h: FUSE, debugfs, tracefs, proc, sysfs.
_VIRTUAL: Final = frozenset((0x65735546, 0x64626720, 0x74726163, 0x9FA0, 0x62656572))


class _Raw(io.RawIOBase):
    """A stream on a file descriptor, even a pipe, that can peek at the first bytes.

    It does not close the descriptor.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._head = b""
        self.nr_bytes = 0
        """Bytes read so far."""
        # A read from a pipe may return less than is needed.
        while len(self._head) < len(_XZ) and (more := os.read(fd, _MIN_READ_BYTES)):
            self._head += more
            self.nr_bytes += len(more)
        self.magic = self._head[: len(_XZ)]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        with memoryview(buffer) as view:
            if self._head:
                nr = min(len(view), len(self._head))
                view[:nr], self._head = self._head[:nr], self._head[nr:]
                return nr
            nr = os.readv(self._fd, [view])
            self.nr_bytes += nr
            return nr


class Input:
    """An open text, read once from start to end, in steps as large as the file provides."""

    def __init__(self, name: str, fd: int) -> None:
        """Open the text of a file descriptor; ``name`` names it in messages."""
        self.name = name
        self.fd = fd
        self.is_cut = False
        """Whether reading failed because compressed data ends too early or is damaged."""
        self.place: Callable[[], str] = str
        """Returns text for error messages that says how far reading has come."""
        with self.errors():
            self.stat = os.fstat(fd)
            # Standard input may be a file whose start has been read already.
            self._from_start = stat.S_ISREG(self.stat.st_mode) and not os.lseek(fd, 0, os.SEEK_CUR)
            self._raw = _Raw(fd)
            self._stream, self.packed = _unpacked(self._raw)

    @property
    def total_bytes(self) -> int | None:
        """Size of the file, as it is on disk; None for a pipe or a generated file."""
        return self.stat.st_size or None if stat.S_ISREG(self.stat.st_mode) else None

    @property
    def is_stable(self) -> bool:
        """Whether the whole file can be read, at any offset, by several threads at once."""
        if not self._from_start or self.packed:
            return False
        with self.errors():
            return _native.filesystem_type(self.fd) not in _VIRTUAL

    def readinto(self, view: memoryview) -> int:
        """
        Read as much as is available and fits.

        :return: number of bytes; 0 at the end
        :raises PageOwnerError: the file can't be read, or its compressed data is damaged
        """
        with self.errors():
            if isinstance(self._stream, io.BufferedIOBase):
                # One step only: text before a damaged part would be lost with it.
                return self._stream.readinto1(view)
            return self._stream.readinto(view) or 0

    @property
    def nr_bytes(self) -> int:
        """Bytes of the file read so far, compressed or not."""
        return self._raw.nr_bytes

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn exceptions raised by reading into a PageOwnerError that names the file."""
        try:
            yield
        except OSError as error:
            raise self._error(error.strerror or str(error)) from error
        except EOFError as error:
            self.is_cut = True
            raise self._error("the compressed data ends too early") from error
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in _UNPACKERS:
                raise
            self.is_cut = True
            raise self._error(f"the compressed data is damaged: {error}") from error

    def _error(self, reason: str) -> PageOwnerError:
        return PageOwnerError(f"{self.name}: {self.place()}{reason}")


def _unpacked(raw: _Raw) -> tuple[io.RawIOBase | io.BufferedIOBase, bool]:
    """Return a stream of plain text, and whether ``raw`` is compressed, by its first bytes."""
    # Imported here because together they take longer than sorting most dumps.
    if raw.magic.startswith(_GZIP):
        import gzip  # noqa: PLC0415

        return gzip.GzipFile(fileobj=raw), True
    if raw.magic.startswith(_XZ):
        import lzma  # noqa: PLC0415

        return lzma.LZMAFile(raw), True  # type: ignore[arg-type]
    if raw.magic.startswith(_ZSTD):
        return _zstd_file(raw), True
    return raw, False


def _zstd_file(raw: _Raw) -> io.BufferedIOBase:
    try:
        from compression import zstd  # noqa: PLC0415 - since Python 3.14
    except ImportError:
        from backports import zstd  # noqa: PLC0415
    file: io.BufferedIOBase = zstd.ZstdFile(raw)
    return file


@contextmanager
def open_input(path: str) -> Iterator[Input]:
    """
    Open a text by its path; ``-`` is standard input.

    Text compressed with gzip, xz or zstd is recognised by its first bytes.

    :raises PageOwnerError: the file can't be opened or read
    """
    if path == STDIN:
        yield Input("standard input", 0)
        return
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise PageOwnerError(f"{path}: {error.strerror}") from error
    try:
        yield Input(path, fd)
    finally:
        os.close(fd)


class Window:
    """The part of a text that is in memory; it grows when a record does not fit."""

    def __init__(self) -> None:
        """Make an empty window."""
        self._buffer = bytearray(WINDOW_BYTES)
        self._filled = 0
        self._wanted = 1

    @property
    def room(self) -> memoryview:
        """Free space behind the text, for the next read: at least 64 KiB."""
        if len(self._buffer) - self._filled < _MIN_READ_BYTES:
            # Not extend(): a bytearray with exported views can't grow.
            buffer = bytearray(2 * len(self._buffer))
            buffer[: self._filled] = self.text
            self._buffer = buffer
        return memoryview(self._buffer)[self._filled :]

    def add(self, nr_bytes: int) -> bool:
        """Add the bytes that were read into ``room``; return whether to parse the text now."""
        self._filled += nr_bytes
        return self._filled >= self._wanted

    @property
    def text(self) -> memoryview:
        """The text in memory."""
        return memoryview(self._buffer)[: self._filled]

    def drop(self, nr_bytes: int) -> None:
        """Drop bytes from the start. If there are none to drop, wait for twice as much text."""
        rest = self._filled - nr_bytes
        self.text[:rest] = self.text[nr_bytes:]
        self._filled = rest
        # Don't parse an incomplete record again for every byte: that would take quadratic time.
        self._wanted = 2 * rest if nr_bytes == 0 else rest + 1
