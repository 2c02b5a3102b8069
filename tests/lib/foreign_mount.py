"""Serve a mount of our type whose attribute holds any text: foreign_mount.py DIR TEXT."""

from __future__ import annotations

import errno
import stat
import sys

from pageownerfs.client import XATTR
from pageownerfs.fs import load_binding

binding = load_binding()


class Operations(binding.Operations):  # type: ignore[misc, name-defined]
    """An empty directory with one extended attribute."""

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        """Answer stat()."""
        del fh
        if path != "/":
            raise binding.FuseOSError(errno.ENOENT)
        return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}

    def getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        """Return the text."""
        del path, position
        if name != XATTR:
            raise binding.FuseOSError(errno.ENODATA)
        return sys.argv[2].encode()


binding.FUSE(Operations(), sys.argv[1], foreground=True, subtype="pageownerfs", fsname="foreign")
