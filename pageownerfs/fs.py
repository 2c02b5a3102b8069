"""
Serve a tree of views through FUSE; formatting and mm logic live elsewhere.

This is the only module that imports the binding, and it does so only to mount: fusepy, or
mfusepy, which has the same API and works on systems without libfuse2.

A handler raises ViewError for errors that are part of a file's behaviour. Any other exception is
logged with its traceback and reported as EIO. The binding sees nothing but its own FuseOSError.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import importlib
import itertools
import logging
import os
import stat
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .errors import MountError, PageOwnerOffError
from .views import Directory, Node, OpenFile, View, ViewError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import ModuleType

_log = logging.getLogger(__name__)

FSTYPE: Final = "fuse.pageownerfs"
"""File system type in /proc/mounts."""

# cp, cat and Python read in steps of st_blksize; the kernel's own files report 4096.
_BLKSIZE: Final = 128 << 10
_HANDLERS: Final = (
    *("init", "getattr", "readdir", "opendir", "releasedir", "open", "read", "write", "truncate"),
    *("release", "fsync", "statfs", "getxattr", "listxattr", "chmod", "chown", "utimens"),
    *("create", "mknod", "mkdir", "unlink", "rmdir", "symlink", "link", "rename"),
)


class _Opened(NamedTuple):
    path: str
    file: OpenFile


class FileSystem:
    """FUSE handlers of one mount: they map paths to views and file handles to open files."""

    def __init__(
        self,
        root: Directory,
        xattrs: Mapping[str, Callable[[], bytes]],
        *,
        kernel_abi: bool = False,
        on_init: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Serve the tree ``root``.

        :param xattrs: extended attributes of the root; a value is made for each getxattr()
        :param kernel_abi: answer stat, open and fsync as debugfs does
        :param on_init: called when the kernel has accepted the mount
        """
        self._root = root
        self._xattrs = xattrs
        self._kernel_abi = kernel_abi
        self._on_init = on_init
        self._open: dict[int, _Opened] = {}
        self._lock = threading.Lock()
        self._open_dirs: dict[int, str] = {}
        self._next_fh = itertools.count(1)
        self._chmods: dict[str, int] = {}
        self._mounted_nsec = time.time_ns()
        self._uid, self._gid = os.getuid(), os.getgid()
        self._truncated_nsec: dict[str, int] = {}

    def init(self, path: str) -> None:
        """Answer FUSE_INIT: the mount is ready."""
        del path
        self._on_init()

    # Names

    def _node(self, path: str) -> Node:
        node: Node = self._root
        for name in filter(None, path.split("/")):
            below = node.lookup(name) if isinstance(node, Directory) else None
            if below is None or below.absent() is not None:
                raise ViewError(errno.ENOENT)
            node = below
        return node

    def _view(self, path: str) -> View:
        node = self._node(path)
        if isinstance(node, Directory):
            raise ViewError(errno.EISDIR)
        return node

    def _directory(self, path: str) -> Directory:
        node = self._node(path)
        if not isinstance(node, Directory):
            raise ViewError(errno.ENOTDIR)
        return node

    def getattr(self, path: str | None, fh: int | None = None) -> dict[str, int]:
        """Answer stat() and fstat(); st_size is the current length of the text."""
        if path is None:
            path = self._opened(fh).path
        node = self._node(path)
        changed_nsec = self._truncated_nsec.get(path, self._mounted_nsec)
        mode = self._chmods.get(path, node.mode)
        attrs = {
            "st_uid": self._uid,
            "st_gid": self._gid,
            "st_blksize": 4096 if self._kernel_abi else _BLKSIZE,
            "st_atime": self._mounted_nsec,
            "st_mtime": changed_nsec,
            "st_ctime": changed_nsec,
        }
        if isinstance(node, Directory):
            return attrs | {"st_mode": stat.S_IFDIR | mode, "st_nlink": 2}
        size = node.size()
        return attrs | {
            "st_mode": stat.S_IFREG | mode,
            "st_nlink": 1,
            "st_size": size,
            "st_blocks": (size + 511) // 512,
        }

    def opendir(self, path: str) -> int:
        """Open a directory."""
        fh = next(self._next_fh)
        self._open_dirs[fh] = path
        return fh

    def readdir(self, path: str | None, fh: int) -> Iterable[str]:
        """List the entries that are present now."""
        directory = self._directory(self._open_dirs[fh] if path is None else path)
        return itertools.chain((".", ".."), directory.names())

    def releasedir(self, path: str | None, fh: int) -> None:
        """Close a directory."""
        del path
        self._open_dirs.pop(fh, None)

    # Files

    def _opened(self, fh: int | None) -> _Opened:
        opened = self._open.get(fh) if fh is not None else None
        if opened is None:
            raise ViewError(errno.EBADF)
        return opened

    def open(self, path: str, flags: int) -> int:
        """Open a view. The kernel checks permissions by the mode (default_permissions)."""
        view = self._view(path)
        if self._kernel_abi and flags & os.O_DIRECT:
            raise ViewError(errno.EINVAL)
        fh = next(self._next_fh)
        self._open[fh] = _Opened(path, view.open())
        return fh

    def read(self, fh: int, view: memoryview, offset: int, *, fill: bool) -> int:
        """
        Read from a file into FUSE's own buffer.

        :param fill: the caller takes a short read for the end of the file: fill the buffer
        :return: number of bytes
        """
        file = self._opened(fh).file
        nr_bytes = file.read_into(view, offset)
        # With kernel_abi every read returns one record, whoever asks.
        while fill and nr_bytes < len(view) and not self._kernel_abi:
            more = file.read_into(view[nr_bytes:], offset + nr_bytes)
            if not more:
                break
            nr_bytes += more
        return nr_bytes

    def write(self, path: str | None, data: bytes, offset: int, fh: int) -> int:
        """Pass the data of one write() to the open file."""
        del path
        return self._opened(fh).file.write(data, offset)

    def truncate(self, path: str | None, length: int, fh: int | None = None) -> None:
        """Change only the times, as debugfs does: ``echo 1 > file`` truncates before it writes."""
        del length
        if path is None:
            path = self._opened(fh).path
        self._view(path)
        with self._lock:
            self._truncated_nsec[path] = time.time_ns()

    def release(self, path: str | None, fh: int) -> None:
        """Close a file handle, after the last close() of the open file."""
        del path
        opened = self._open.pop(fh, None)
        if opened is not None:
            opened.file.close()

    def fsync(self, path: str | None, datasync: int, fh: int) -> None:
        """Do nothing; with kernel_abi, fail with EINVAL because debugfs has no fsync."""
        del path, datasync, fh
        if self._kernel_abi:
            raise ViewError(errno.EINVAL)

    def statfs(self, path: str) -> dict[str, int]:
        """Answer statfs(): no blocks, as for every file system that generates its text."""
        del path
        return {"f_bsize": 4096, "f_frsize": 4096, "f_namemax": 255}

    # Attributes

    def getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        """Return an extended attribute; only the root has any."""
        del position
        if not name.startswith("user."):
            # ls -l asks every file for its ACL and label, but stops when they are unsupported.
            raise ViewError(errno.EOPNOTSUPP)
        if path != "/" or name not in self._xattrs:
            raise ViewError(errno.ENODATA)
        return self._xattrs[name]()

    def listxattr(self, path: str) -> list[str]:
        """List the extended attributes, which only the root has."""
        return list(self._xattrs) if path == "/" else []

    def chmod(self, path: str, mode: int) -> None:
        """Change a mode, as in debugfs, to let other users read a mount with allow_other."""
        self.getattr(path)
        with self._lock:
            self._chmods[path] = stat.S_IMODE(mode)

    def utimens(self, path: str, times: object = None) -> None:
        """Do nothing, so that touch succeeds."""
        del path, times

    # Directories that users create

    def mkdir(self, path: str, mode: int) -> None:
        """Create a directory, if its parent allows it."""
        del mode
        parent, _, name = path.rpartition("/")
        self._directory(parent).mkdir(name)

    def rmdir(self, path: str) -> None:
        """Remove a directory and its files, if its parent allows it."""
        parent, _, name = path.rpartition("/")
        self._directory(parent).rmdir(name)
        below = path + "/"
        with self._lock:
            for changed in (self._chmods, self._truncated_nsec):
                for old in [old for old in changed if old == path or old.startswith(below)]:
                    del changed[old]

    # Operations that fail, with the errno that debugfs returns even to root

    def create(self, path: str, mode: int) -> int:
        """Fail with EACCES."""
        del path, mode
        raise ViewError(errno.EACCES)

    def _refuse(self, *args: object) -> None:
        del args
        raise ViewError(errno.EPERM)

    chown = mknod = unlink = symlink = link = rename = _refuse


def load_binding() -> ModuleType:
    """
    Import the FUSE binding: fusepy, or else mfusepy.

    :raises MountError: neither can be imported, or libfuse is missing; says what to install
    """
    reasons = []
    for name in ("fuse", "mfusepy"):
        try:
            binding = importlib.import_module(name)
        except (ImportError, OSError, AttributeError) as error:
            reasons.append(f"{name}: {error}")
            continue
        if hasattr(binding, "FUSE") and hasattr(binding, "FuseOSError"):
            return binding
        reasons.append(f"{name}: not fusepy")  # fuse-python has the same module name
    msg = (
        f"no usable FUSE binding ({'; '.join(reasons)}): install libfuse2 (Debian: apt install "
        "libfuse2), or on a system with only libfuse3: pip install mfusepy"
    )
    raise MountError(msg)


def _guard(handler: Callable[..., Any], fuse_os_error: type[OSError]) -> Callable[..., Any]:
    # The one place that catches a handler's exceptions.
    @functools.wraps(handler)
    def guarded(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - any arguments
        try:
            return handler(*args, **kwargs)
        except ViewError as error:
            raise fuse_os_error(error.errno) from None
        except PageOwnerOffError:  # a moment ago: the file has just become absent
            raise fuse_os_error(errno.ENOENT) from None
        except Exception:  # noqa: BLE001 - the binding must not see any
            _log.exception("%s%r failed; reported as EIO", handler.__name__, args)
            raise fuse_os_error(errno.EIO) from None

    return guarded


class _Operations:
    """The object passed to the binding: guarded handlers, and the attributes it looks for."""

    use_ns = True
    # read() and similar handlers need only the handle: libfuse need not build the path.
    flag_nullpath_ok = 1
    flag_nopath = 1

    def __init__(self, filesystem: FileSystem, fuse_os_error: type[OSError]) -> None:
        for name in _HANDLERS:
            setattr(self, name, _guard(getattr(filesystem, name), fuse_os_error))


class _CallableOperations(_Operations):
    # fusepy calls operations(name, ...), mfusepy operations.name(...), with a warning if there is
    # a __call__.
    def __call__(self, name: str, *args: object) -> Any:  # noqa: ANN401 - as the handler
        return getattr(self, name)(*args)


# A memoryview of the memory behind a ctypes pointer, without an array type for each size.
_memory_at: Final = ctypes.PYFUNCTYPE(
    ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int
)(("PyMemoryView_FromMemory", ctypes.pythonapi))
_PYBUF_WRITE: Final = 0x200


def _read(self: Any, path: object, buf: Any, size: int, offset: int, fip: Any) -> int:  # noqa: ANN401, PLR0913, PLR0917
    # The binding's read() copies a bytes object; this one writes the text directly into buf.
    del path
    info = fip.contents
    view = _memory_at(buf, size, _PYBUF_WRITE)
    # A read() has a lock owner. A read for the page cache (sendfile, splice) has none, and the
    # kernel takes a short answer to it for the end of the file.
    try:
        count: int = self.operations.read(info.fh, view, offset, fill=not info.lock_owner)
    finally:
        view.release()  # the buffer belongs to FUSE again
    return count


def _truncate(self: Any, path: bytes | None, length: int, fip: Any) -> None:  # noqa: ANN401
    # mfusepy's method for libfuse 3 drops the handle, but an open file has no path.
    handle = fip.contents.fh if fip else None
    self.operations.truncate(path if path is None else path.decode("latin-1"), length, handle)


class Session:
    """Serve one mount: call run() in one thread, stop() from any other."""

    def __init__(self, binding: ModuleType, filesystem: FileSystem) -> None:
        """Prepare to serve ``filesystem`` through ``binding`` (see load_binding())."""
        self._binding: Any = binding
        self._filesystem = filesystem
        self._fuse_pointer: int | None = None

    def run(self, fsname: str, mountpoint: bytes, options: Iterable[str] = ()) -> None:
        """
        Mount, and serve until the file system is unmounted or stop() is called.

        :param fsname: the device in /proc/mounts
        :param mountpoint: absolute path
        :param options: for libfuse, in addition to those that this file system needs
        :raises MountError: libfuse could not mount; it has written why to standard error
        """
        operations_type = _CallableOperations if self._binding.__name__ == "fuse" else _Operations
        operations = operations_type(self._filesystem, self._binding.FuseOSError)
        operations.init = self._with_pointer(operations.init)  # type: ignore[attr-defined]
        methods = {"read": _read, "truncate_fuse_3": _truncate}
        mount = type("Mount", (self._binding.FUSE,), methods)
        try:
            mount(
                operations,
                mountpoint.decode("latin-1"),
                # Every byte decodes, so that an odd file name is ENOENT and not an exception.
                encoding="latin-1",
                foreground=True,
                fsname=fsname,
                subtype=FSTYPE.partition(".")[2],
                default_permissions=True,
                direct_io=True,
                # Every stat() reaches getattr(): st_size is the current length of the text.
                attr_timeout=0,
                # A name never changes its meaning, and a missing name is not cached.
                entry_timeout=1,
                **dict.fromkeys(options, True),
            )
        except RuntimeError as error:
            msg = f"libfuse could not mount on {os.fsdecode(mountpoint)}"
            raise MountError(msg) from error

    def _with_pointer(self, init: Callable[[str], None]) -> Callable[[str], None]:
        # libfuse reveals which struct fuse it serves only inside a handler.
        def init_with_pointer(path: str) -> None:
            context = self._binding._libfuse.fuse_get_context()  # noqa: SLF001
            self._fuse_pointer = context.contents.fuse
            init(path)

        return init_with_pointer

    def stop(self) -> None:
        """
        Make run() return: fuse_exit(), called from outside a handler.

        The thread in run() sleeps in sem_wait(); the caller must also wake it with a signal.
        """
        if self._fuse_pointer is not None:
            self._binding._libfuse.fuse_exit(ctypes.c_void_p(self._fuse_pointer))  # noqa: SLF001
