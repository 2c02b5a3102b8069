"""Mount one file, ``constant``, that repeats one buffer: the peer of page_owner.

    python -m benchmarks.constant MOUNTPOINT BYTES ours|plain

``ours`` serves the file through the mount of pageownerfs, with a view that copies the buffer;
``plain`` serves it through the FUSE binding as any program would use it. The server ends when the
file system is unmounted.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from typing import TYPE_CHECKING, Any

from pageownerfs.fs import FileSystem, Session, load_binding
from pageownerfs.views import Tree, ViewError

if TYPE_CHECKING:
    from types import ModuleType

BUFFER = b"page_owner " * 16384
NAME = "/constant"


class ConstantFile:
    """The view of the file, and its open file."""

    mode = 0o400

    def __init__(self, nr_bytes: int) -> None:
        """Set the length of the file."""
        self._nr_bytes = nr_bytes

    def absent(self) -> None:
        """Say that the file exists."""

    def size(self) -> int:
        """Return the length of the file."""
        return self._nr_bytes

    def open(self) -> ConstantFile:
        """Open it; there is no state to keep."""
        return self

    def read(self, size: int, offset: int) -> bytes:
        """Return the buffer at any offset, in the type that the binding expects."""
        return BUFFER[: max(0, min(size, self._nr_bytes - offset))]

    def read_into(self, view: memoryview, offset: int, /) -> int:
        """Copy the buffer at any offset."""
        nr = max(0, min(len(view), self._nr_bytes - offset, len(BUFFER)))
        view[:nr] = memoryview(BUFFER)[:nr]
        return nr

    def write(self, data: bytes, offset: int) -> int:
        """Refuse writes."""
        del data, offset
        raise ViewError(errno.EPERM)

    def close(self) -> None:
        """Close it; there is nothing to release."""


def serve_ours(binding: ModuleType, mountpoint: str, nr_bytes: int) -> None:
    """Serve the file through the mount of pageownerfs."""
    file = ConstantFile(nr_bytes)
    Session(binding, FileSystem(Tree({NAME.lstrip("/"): file}), {})).run(
        "constant", os.fsencode(mountpoint)
    )


def serve_plain(binding: ModuleType, mountpoint: str, nr_bytes: int) -> None:
    """Serve the file through the FUSE binding alone."""
    base: Any = binding.Operations
    file = ConstantFile(nr_bytes)

    class Constant(base):  # type: ignore[misc]
        use_ns = True

        def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
            del fh
            if path == "/":
                return {"st_mode": stat.S_IFDIR | 0o555, "st_nlink": 2}
            size = {"st_size": nr_bytes, "st_blksize": 128 << 10}
            return {"st_mode": stat.S_IFREG | 0o444, "st_nlink": 1, **size}

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            del path, fh
            return file.read(size, offset)

    binding.FUSE(Constant(), mountpoint, foreground=True, direct_io=True, fsname="constant")


def main() -> int:
    """Serve until unmounted."""
    mountpoint, nr_bytes, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    serve = {"ours": serve_ours, "plain": serve_plain}[kind]
    serve(load_binding(), mountpoint, nr_bytes)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
