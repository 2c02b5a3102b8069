"""Paths to files: what a tree of views makes of them, and what the mount's handlers return."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

import pytest

from pageownerfs.fs import FileSystem
from pageownerfs.views.tree import Tree
from pageownerfs.views.view import Directory, ViewError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pageownerfs.views.view import Node


class Text:
    """A view of a fixed text, and its open file."""

    def __init__(
        self, text: bytes = b"text\n", mode: int = 0o400, absent: str | None = None
    ) -> None:
        """Make the view."""
        self.text, self.mode, self.reason = text, mode, absent
        self.written: list[tuple[bytes, int]] = []
        self.nr_open = 0
        self.step = 1 << 20

    def absent(self) -> str | None:
        """Return what the test wants."""
        return self.reason

    def size(self) -> int:
        """Return the length of the text."""
        return len(self.text)

    def open(self) -> Text:
        """Count the call."""
        self.nr_open += 1
        return self

    def read_into(self, view: memoryview, offset: int, /) -> int:
        """Copy a part."""
        part = self.text[offset : offset + min(len(view), self.step)]
        view[: len(part)] = part
        return len(part)

    def write(self, data: bytes, offset: int) -> int:
        """Record the write."""
        self.written.append((data, offset))
        return len(data)

    def close(self) -> None:
        """Count the call."""
        self.nr_open -= 1


class Made(Directory):
    """A directory in which directories with one file each can be made."""

    mode = 0o700

    def __init__(self) -> None:
        """Start empty."""
        self.made: dict[str, Tree] = {}

    def names(self) -> Iterable[str]:
        """Return the names."""
        return list(self.made)

    def lookup(self, name: str) -> Node | None:
        """Find a directory, or the one that is never listed."""
        return Text(b"hidden") if name == "hidden" else self.made.get(name)

    def mkdir(self, name: str) -> None:
        """Make a directory."""
        if name in self.made:
            raise ViewError(errno.EEXIST)
        self.made[name] = Tree({"file": Text()})

    def rmdir(self, name: str) -> None:
        """Remove a directory."""
        if name not in self.made:
            raise ViewError(errno.ENOENT)
        del self.made[name]


def raises(number: int, function: Callable[..., object], *args: object) -> None:
    """Expect an errno."""
    with pytest.raises(ViewError) as caught:
        function(*args)
    assert caught.value.errno == number, args


# ---- Tree ----


def test_names_and_lookup() -> None:
    """Paths make directories, in the order of their first names."""
    files = {path: Text() for path in ("a", "b/c", "d", "b/e/f", "b/e/g", "h/i/j/k")}
    tree = Tree(files)
    assert list(tree.names()) == ["a", "b", "d", "h"]
    below = tree.lookup("b")
    assert isinstance(below, Tree)
    assert list(below.names()) == ["c", "e"]
    assert below.lookup("c") is files["b/c"]
    deep: Node | None = tree
    for name in ("h", "i", "j"):
        assert isinstance(deep, Directory)
        deep = deep.lookup(name)
    assert isinstance(deep, Tree)
    assert deep.lookup("k") is files["h/i/j/k"]
    assert tree.lookup("x") is tree.lookup("") is tree.lookup("b/c") is None
    assert (tree.mode, below.mode) == (0o555, 0o555)


def test_absent() -> None:
    """An absent file is not listed but found; a directory is absent if all its files are."""
    first, second = Text(absent="it is off"), Text(absent="it is old")
    third = Text()
    tree = Tree({"a": third, "b/c": first, "b/d/e": second})
    assert list(tree.names()) == ["a"]
    assert tree.absent() is None
    below = tree.lookup("b")
    assert isinstance(below, Tree)
    assert below.absent() == "it is off"
    assert below.lookup("c") is first
    assert list(tree.all_absent()) == [("b", "it is off")]
    second.reason = None
    assert list(tree.names()) == ["a", "b"]
    assert list(below.names()) == ["d"]
    assert list(tree.all_absent()) == [("b/c", "it is off")]
    third.reason = "gone"
    assert list(tree.all_absent()) == [("a", "gone"), ("b/c", "it is off")]
    first.reason = third.reason = None
    assert list(tree.all_absent()) == []


def test_empty_tree() -> None:
    """An empty tree exists and has no entries."""
    tree = Tree({})
    assert (tree.absent(), list(tree.names()), list(tree.all_absent())) == (None, [], [])


def test_directories_of_others() -> None:
    """A directory of another kind is a node like a file."""
    made = Made()
    tree = Tree({"snapshots": made, "x/snapshots": made})
    assert tree.lookup("snapshots") is made
    assert list(tree.names()) == ["snapshots", "x"]
    raises(errno.EPERM, tree.mkdir, "new")
    raises(errno.EPERM, tree.rmdir, "snapshots")


# ---- FileSystem ----


class Mount:
    """A file system over some nodes."""

    def __init__(self, *, kernel_abi: bool = False) -> None:
        """Make it."""
        self.top, self.low, self.gone = Text(b"top\n"), Text(b"x" * 1000, 0o600), Text(absent="no")
        self.made = Made()
        nodes: dict[str, Node] = {
            "top": self.top,
            "dir/low": self.low,
            "dir/gone": self.gone,
            "off/gone": self.gone,
            "made": self.made,
        }
        self.inits: list[None] = []
        self.fs = FileSystem(
            Tree(nodes),
            {"user.a": lambda: b"value"},
            kernel_abi=kernel_abi,
            on_init=lambda: self.inits.append(None),
        )

    def read(self, path: str, size: int = 4096, offset: int = 0, *, fill: bool = False) -> bytes:
        """Open, read, release."""
        fh = self.fs.open(path, os.O_RDONLY)
        buffer = bytearray(size)
        nr = self.fs.read(fh, memoryview(buffer), offset, fill=fill)
        self.fs.release(None, fh)
        return bytes(buffer[:nr])


@pytest.fixture
def mount() -> Mount:
    """Return a file system."""
    return Mount()


def test_getattr(mount: Mount) -> None:
    """Files and directories have their mode and size; other names do not exist."""
    top = mount.fs.getattr("/top")
    assert (top["st_mode"], top["st_size"], top["st_blocks"]) == (stat.S_IFREG | 0o400, 4, 1)
    low = mount.fs.getattr("/dir/low")
    assert (low["st_mode"], low["st_size"], low["st_blocks"]) == (stat.S_IFREG | 0o600, 1000, 2)
    for path, mode in (("/", 0o555), ("/dir", 0o555), ("/made", 0o700)):
        assert mount.fs.getattr(path)["st_mode"] == stat.S_IFDIR | mode
    assert mount.fs.getattr("/made/hidden")["st_size"] == 6
    for path in ("/x", "/dir/x", "/dir/gone", "/off", "/off/gone", "/top/x", "/made/x", "/top/.."):
        raises(errno.ENOENT, mount.fs.getattr, path)
    mount.gone.reason = None
    assert mount.fs.getattr("/off/gone")["st_size"] == 5
    assert top["st_uid"] == os.getuid()


def test_directories(mount: Mount) -> None:
    """A directory lists its current entries, by path or by handle."""
    fh = mount.fs.opendir("/")
    assert list(mount.fs.readdir("/", fh)) == [".", "..", "top", "dir", "made"]
    mount.gone.reason = None
    assert list(mount.fs.readdir(None, fh)) == [".", "..", "top", "dir", "off", "made"]
    other = mount.fs.opendir("/dir")
    assert list(mount.fs.readdir(None, other)) == [".", "..", "low", "gone"]
    mount.fs.releasedir(None, fh)
    mount.fs.releasedir("/dir", other)
    raises(errno.ENOTDIR, mount.fs.readdir, "/top", 0)
    raises(errno.ENOENT, mount.fs.readdir, "/x", 0)


def test_reading_and_writing(mount: Mount) -> None:
    """A handle uses the view's open file until it is released."""
    assert mount.read("/top") == b"top\n"
    assert mount.read("/dir/low", 10, 995) == b"x" * 5
    assert mount.read("/made/hidden") == b"hidden"
    first, second = (mount.fs.open("/top", os.O_RDWR) for _ in range(2))
    assert first != second
    assert mount.top.nr_open == 2
    assert mount.fs.write(None, b"data", 3, second) == 4
    assert mount.top.written == [(b"data", 3)]
    assert mount.fs.getattr(None, first)["st_size"] == 4
    mount.fs.release("/top", first)
    mount.fs.release("/top", first)
    assert mount.top.nr_open == 1
    for call in (
        lambda: mount.fs.read(first, memoryview(b""), 0, fill=True),
        lambda: mount.fs.write("/top", b"", 0, first),
        lambda: mount.fs.getattr(None, first),
        lambda: mount.fs.getattr(None),
        lambda: mount.fs.truncate(None, 0, first),
    ):
        raises(errno.EBADF, call)
    # An open file stays open even if its name disappears.
    mount.top.reason = "gone"
    raises(errno.ENOENT, mount.fs.open, "/top", 0)
    assert mount.fs.write(None, b"more", 0, second) == 4


def test_reading_on() -> None:
    """Tools that take a short read for the end get full reads, except with kernel_abi."""
    for kernel_abi in (False, True):
        mount = Mount(kernel_abi=kernel_abi)
        mount.top.step = 3
        assert mount.read("/top") == b"top"
        assert mount.read("/top", fill=True) == (b"top" if kernel_abi else b"top\n")
        assert mount.read("/top", 2, 1, fill=True) == b"op"
        assert mount.read("/top", offset=4, fill=True) == b""


def test_what_can_not_be_opened(mount: Mount) -> None:
    """Directories and missing names cannot be opened as files."""
    for path in ("/", "/dir", "/made"):
        raises(errno.EISDIR, mount.fs.open, path, os.O_RDONLY)
        raises(errno.EISDIR, mount.fs.truncate, path, 0)
    for path in ("/x", "/dir/gone", "/off/gone", "/top/x"):
        raises(errno.ENOENT, mount.fs.open, path, os.O_RDONLY)
        raises(errno.ENOENT, mount.fs.truncate, path, 0)
        raises(errno.ENOENT, mount.fs.chmod, path, 0o644)


def test_kernel_abi() -> None:
    """As in debugfs, there is no O_DIRECT and no fsync, and a block is a page."""
    plain, kernel = Mount(), Mount(kernel_abi=True)
    assert plain.fs.getattr("/top")["st_blksize"] == 128 << 10
    assert kernel.fs.getattr("/top")["st_blksize"] == 4096
    raises(errno.EINVAL, kernel.fs.open, "/top", os.O_DIRECT)
    fh = plain.fs.open("/top", os.O_DIRECT)
    plain.fs.fsync(None, 0, fh)
    raises(errno.EINVAL, kernel.fs.fsync, None, 0, kernel.fs.open("/top", 0))


def test_xattrs(mount: Mount) -> None:
    """Only the root has extended attributes."""
    assert mount.fs.listxattr("/") == ["user.a"]
    assert mount.fs.listxattr("/top") == []
    assert mount.fs.getxattr("/", "user.a") == b"value"
    raises(errno.ENODATA, mount.fs.getxattr, "/", "user.b")
    raises(errno.ENODATA, mount.fs.getxattr, "/top", "user.a")
    raises(errno.EOPNOTSUPP, mount.fs.getxattr, "/", "security.selinux")


def test_modes_and_times(mount: Mount) -> None:
    """A new mode is kept, and truncating changes only the times."""
    before = mount.fs.getattr("/top")
    mount.fs.chmod("/top", stat.S_IFREG | 0o644)
    mount.fs.chmod("/dir", 0o755)
    assert mount.fs.getattr("/top")["st_mode"] == stat.S_IFREG | 0o644
    assert mount.fs.getattr("/dir")["st_mode"] == stat.S_IFDIR | 0o755
    assert mount.fs.getattr("/dir/low")["st_mode"] == stat.S_IFREG | 0o600
    mount.fs.utimens("/top", None)
    mount.fs.truncate("/top", 0)
    after = mount.fs.getattr("/top")
    assert after["st_mtime"] > before["st_mtime"]
    assert (after["st_size"], after["st_atime"]) == (4, before["st_atime"])


def test_directories_that_are_made(mount: Mount) -> None:
    """Directories can be made if the parent permits it; removing one drops its files' state."""
    mount.fs.mkdir("/made/one", 0o755)
    mount.fs.mkdir("/made/one2", 0o755)
    assert mount.read("/made/one/file") == b"text\n"
    raises(errno.EEXIST, mount.fs.mkdir, "/made/one", 0o755)
    raises(errno.EPERM, mount.fs.mkdir, "/made/one/two", 0o755)
    raises(errno.EPERM, mount.fs.mkdir, "/new", 0o755)
    raises(errno.EPERM, mount.fs.mkdir, "/dir/new", 0o755)
    raises(errno.ENOTDIR, mount.fs.mkdir, "/top/new", 0o755)
    raises(errno.ENOENT, mount.fs.mkdir, "/x/new", 0o755)
    for path in ("/made/one", "/made/one/file", "/made/one2", "/made/one2/file"):
        mount.fs.chmod(path, 0o111)
    mount.fs.truncate("/made/one/file", 0)
    changed = mount.fs.getattr("/made/one/file")["st_mtime"]
    mount.fs.rmdir("/made/one")
    raises(errno.ENOENT, mount.fs.getattr, "/made/one")
    raises(errno.ENOENT, mount.fs.rmdir, "/made/one")
    raises(errno.EPERM, mount.fs.rmdir, "/dir")
    raises(errno.EPERM, mount.fs.rmdir, "/made")
    mount.fs.mkdir("/made/one", 0o755)
    assert mount.fs.getattr("/made/one")["st_mode"] == stat.S_IFDIR | 0o555
    file = mount.fs.getattr("/made/one/file")
    assert file["st_mode"] == stat.S_IFREG | 0o400
    assert file["st_mtime"] < changed
    # Names that only begin alike are not affected.
    assert stat.S_IMODE(mount.fs.getattr("/made/one2")["st_mode"]) == 0o111
    assert stat.S_IMODE(mount.fs.getattr("/made/one2/file")["st_mode"]) == 0o111


def test_refused(mount: Mount) -> None:
    """Operations that no tree permits fail as in debugfs for root."""
    raises(errno.EACCES, mount.fs.create, "/new", 0o644)
    for name, args in (
        ("chown", ("/top", 0, 0)),
        ("mknod", ("/new", 0o644, 0)),
        ("unlink", ("/top",)),
        ("symlink", ("/new", "top")),
        ("link", ("/new", "/top")),
        ("rename", ("/top", "/new")),
    ):
        raises(errno.EPERM, getattr(mount.fs, name), *args)


def test_init_and_statfs(mount: Mount) -> None:
    """The mount reports when it is ready."""
    mount.fs.init("/")
    assert len(mount.inits) == 1
    assert mount.fs.statfs("/")["f_namemax"] == 255
