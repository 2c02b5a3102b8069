"""Where text comes from: a file, the mount, debugfs, a pipe; packed or plain."""

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
"""Text in memory at a time, if no record is longer: it should fit into a core's cache."""

_MIN_READ_BYTES: Final = 64 << 10
"""Never ask for less: the kernel's page_owner gives ENOMEM where a record does not fit."""

_GZIP: Final = b"\x1f\x8b"
_XZ: Final = b"\xfd7zXZ\0"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
# What raises errors that have no base of their own in common: zlib.error, LZMAError, ZstdError.
_UNPACKERS: Final = {"zlib", "_lzma", "backports", "compression"}
# File systems whose files are made as they are read: what stands at an offset changes. Magic
# numbers of linux/magic.h: FUSE, debugfs, tracefs, proc, sysfs.
_VIRTUAL: Final = frozenset((0x65735546, 0x64626720, 0x74726163, 0x9FA0, 0x62656572))


class _Raw(io.RawIOBase):
    """A file descriptor whose first bytes can be looked at, pipe or not. Does not close it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._head = b""
        self.nr_bytes = 0
        """Read so far."""
        # A pipe may give less than is needed.
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
    """An open text, to be read once from its start to its end, in as large steps as it gives."""

    def __init__(self, name: str, fd: int) -> None:
        """Take the name for people and the file descriptor."""
        self.name = name
        self.fd = fd
        self.is_cut = False
        """Set with the error of packed data that ends too early, or is damaged."""
        self.place: Callable[[], str] = str
        """Says before the reason of an error how far the reading was."""
        with self.errors():
            self.stat = os.fstat(fd)
            # Standard input may be a file of which somebody has read the start.
            self._from_start = stat.S_ISREG(self.stat.st_mode) and not os.lseek(fd, 0, os.SEEK_CUR)
            self._raw = _Raw(fd)
            self._stream, self.packed = _unpacked(self._raw)

    @property
    def total_bytes(self) -> int | None:
        """Bytes there are, packed ones where they are; None: a pipe, or made as it is read."""
        return self.stat.st_size or None if stat.S_ISREG(self.stat.st_mode) else None

    @property
    def is_stable(self) -> bool:
        """Tell whether all of the file is read, at any offset, from several threads at once."""
        if not self._from_start or self.packed:
            return False
        with self.errors():
            return _native.filesystem_type(self.fd) not in _VIRTUAL

    def readinto(self, view: memoryview) -> int:
        """
        Read what there is, at most as much as fits; 0: the end.

        :raises PageOwnerError: it can't be read, or what is packed is damaged
        """
        with self.errors():
            if isinstance(self._stream, io.BufferedIOBase):
                # Not more than one step: what comes before damage would be lost with it.
                return self._stream.readinto1(view)
            return self._stream.readinto(view) or 0

    @property
    def nr_bytes(self) -> int:
        """Bytes read so far, packed ones where they are."""
        return self._raw.nr_bytes

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what reading may raise into an error that names the file."""
        try:
            yield
        except OSError as error:
            raise self._error(error.strerror or str(error)) from error
        except EOFError as error:
            self.is_cut = True
            raise self._error("the packed data ends too early") from error
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in _UNPACKERS:
                raise
            self.is_cut = True
            raise self._error(f"the packed data is damaged: {error}") from error

    def _error(self, reason: str) -> PageOwnerError:
        return PageOwnerError(f"{self.name}: {self.place()}{reason}")


def _unpacked(raw: _Raw) -> tuple[io.RawIOBase | io.BufferedIOBase, bool]:
    """Find out by its first bytes whether it is packed; what to read, and whether it was."""
    # Imported where they are needed: together they take longer than the sorting of most dumps.
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

    Packed text is recognised by its first bytes: gzip, xz, zstd.

    :raises PageOwnerError: it can't be opened or read
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
    """The part of a text that is in memory; grows when a record does not fit."""

    def __init__(self) -> None:
        """Make it empty."""
        self._buffer = bytearray(WINDOW_BYTES)
        self._filled = 0
        self._wanted = 1

    @property
    def room(self) -> memoryview:
        """Where the next text is to be read to, behind what is there: 64 KiB at least."""
        if len(self._buffer) - self._filled < _MIN_READ_BYTES:
            # Not extend(): what is in use elsewhere can't grow.
            buffer = bytearray(2 * len(self._buffer))
            buffer[: self._filled] = self.text
            self._buffer = buffer
        return memoryview(self._buffer)[self._filled :]

    def add(self, nr_bytes: int) -> bool:
        """Take note of what was read into room; is it enough to look at?"""
        self._filled += nr_bytes
        return self._filled >= self._wanted

    @property
    def text(self) -> memoryview:
        """All that is there."""
        return memoryview(self._buffer)[: self._filled]

    def drop(self, nr_bytes: int) -> None:
        """Forget so many bytes of its start. What is left waits for as much again, or more."""
        rest = self._filled - nr_bytes
        self.text[:rest] = self.text[nr_bytes:]
        self._filled = rest
        # What was too little once is not tried again for each byte more: that would take forever.
        self._wanted = 2 * rest if nr_bytes == 0 else rest + 1
