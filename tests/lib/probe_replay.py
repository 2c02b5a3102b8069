"""
Repeat the calls of tests/data/probe.txt on another page_owner.

The recording program tried every call on a real kernel's file and printed a line for each. Replay
makes the call that a line describes and prints that line again.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import itertools
import os
import re
import select
import termios
from typing import TYPE_CHECKING, Final

from probe_machine import NO_PFN

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DEBUGFS: Final = "/sys/kernel/debug"
_PFN: Final = re.compile(rb"^PFN 0x([0-9a-f]+) ", re.MULTILINE)
_ORDER: Final = re.compile(rb"Page allocated via order (\d+)")


def _hex(value: int) -> str:
    # printf's %#lx.
    return f"{value % (1 << 64):#x}" if value else "0"


def _signed(text: str) -> int:
    value = int(text, 16)
    return value - (1 << 64) if value >> 63 else value


def _attempt(call: Callable[..., object], *args: object) -> tuple[object, str]:
    # The result of a call, in the form of the recording: "461" or "-1 ENOMEM".
    try:
        value = call(*args)
    except OSError as error:
        return None, f"-1 {errno.errorcode[error.errno or 0]}"
    shown = len(value) if isinstance(value, bytes) else value or 0
    return value, str(shown)


def _padded_result(shown: str) -> str:
    # Some lines have a space and then the errno's name, or nothing.
    return shown if shown.startswith("-1") else f"{shown} "


def _libc_call(name: str, *args: object) -> int:
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    function.restype = ctypes.c_ssize_t
    result = int(function(*args))
    if result == -1:
        raise OSError(ctypes.get_errno(), name)
    return result


def describe(data: bytes) -> str:
    """Describe the result of a read as the recording does."""
    pfns = _PFN.findall(data)
    pfn = int(pfns[0], 16) if pfns else NO_PFN
    ends, first = int(data.endswith(b"\n\n")), chr(data[0]) if data else "-"
    return f"PFN {pfn:#x}  nrec={len(_ORDER.findall(data))} ends_nlnl={ends} first_byte={first}"


class Replay:
    """
    The recording program; line() runs one line of it.

    If the program moved without printing that, the recorded f_pos shows it: it differs from the
    position after the previous line. A 0 then means that the file was opened again.
    """

    def __init__(self, root: Path, uid: int) -> None:
        """Run on the page_owner of the mount ``root``; ``uid`` is the ordinary user's."""
        self._root = root
        self._path = root / "page_owner"
        self._uid = uid
        self._fd = -1
        self._opened = -1  # set by the section about ways to open
        self._base = 0
        self._data = b""
        # Position of the kernel's file after the previous line; None if ours went elsewhere.
        self._kernel_pos: int | None = None
        self._text: list[str] = []
        self.mtimes: list[tuple[int, int]] = []
        """mtime of page_owner at each stat that worked: the recorded one in s, ours in ns."""

    def close(self) -> None:
        """Become root again and close open files."""
        os.seteuid(0)
        for fd in {self._fd, self._opened} - {-1}:
            os.close(fd)

    def line(self, recorded: str) -> str:
        """Make a line's call and return the line that results here. KeyError: unknown line."""
        if self._text:
            return self._text.pop(0)
        for pattern, method in _LINES:
            found = pattern.fullmatch(recorded)
            if found is not None:
                return method(self, found)
        raise KeyError(recorded)

    # Positions.

    def _go_to(self, position: int) -> None:
        if position == self._kernel_pos:
            return
        if position == 0:
            if self._fd >= 0:
                os.close(self._fd)
            self._fd = os.open(self._path, os.O_RDONLY)
        elif position >> 63 == 0:  # otherwise ours can't go there: see the table
            os.lseek(self._fd, position, os.SEEK_SET)
        self._kernel_pos = position

    def _tell(self) -> int:
        return os.lseek(self._fd, 0, os.SEEK_CUR)

    # Lines.

    def _heading(self, found: re.Match[str]) -> str:
        if "as uid 1000" in found[0]:
            os.seteuid(0)
            if "chmod 755" in found[0]:
                self._root.chmod(0o755)
            os.seteuid(self._uid)
        return found[0]

    def _stat(self, found: re.Match[str]) -> str:
        path = self._here(found["path"])
        try:
            st = os.stat(path)  # noqa: PTH116
        except OSError as error:
            return f"  stat {found['path']} -> {errno.errorcode[error.errno or 0]}"
        if path == str(self._path):
            self.mtimes.append((int(found["mtime"]), st.st_mtime_ns))
        return (
            f"  stat {found['path']} mode {st.st_mode:o} uid {st.st_uid} gid {st.st_gid} "
            f"size {st.st_size} blksize {st.st_blksize} blocks {st.st_blocks} "
            f"nlink {st.st_nlink} ino {st.st_ino} mtime {int(st.st_mtime)}"
        )

    def _here(self, path: str) -> str:
        return str(self._root) + path.removeprefix(DEBUGFS)

    def _read(self, found: re.Match[str]) -> str:
        self._go_to(int(found["before"], 16))
        before = self._tell()
        data, shown = _attempt(os.read, self._fd, int(found["size"]))
        self._data = data if isinstance(data, bytes) else b""
        after = self._tell()
        # If FUSE has another position than the kernel, it must be this one.
        assert after == before + len(self._data)
        self._kernel_pos = int(found["after"], 16)
        positions = f"f_pos {_hex(before)} -> {_hex(after)}"
        return f"  read({found['size']}) -> {shown}  {positions}  {describe(self._data)}"

    def _read_bad_pointer(self, found: re.Match[str]) -> str:
        self._go_to(int(found[1], 16))
        _, shown = _attempt(_libc_call, "read", self._fd, ctypes.c_void_p(8), 4096)
        return f"  read(EFAULT) -> {shown} f_pos {_hex(self._tell())}"

    def _pread(self, found: re.Match[str]) -> str:
        self._go_to(int(found["pos"], 16))
        before = self._tell()
        data, shown = _attempt(os.pread, self._fd, 4096, _signed(found["off"]))
        assert self._tell() == before
        pfn = describe(data if isinstance(data, bytes) else b"").partition("  ")[0]
        now = f"(f_pos now {_hex(before)})"
        return f"  pread(4096, off={found['off']}) -> {_padded_result(shown)} {pfn} {now}"

    def _lseek(self, found: re.Match[str]) -> str:
        whence = getattr(os, found["whence"])
        offset = _signed(found["offset"])
        try:
            result, name = os.lseek(self._fd, offset, whence), ""
        except OSError as error:
            result, name = -1, errno.errorcode[error.errno or 0]
        if whence == os.SEEK_SET:
            self._kernel_pos = int(found["offset"], 16)
        if _hex(result) != found["result"]:
            self._kernel_pos = None
        return f"  lseek({found['offset']},{found['whence']}) -> {_hex(result)} {name}"

    def _base_length(self, found: re.Match[str]) -> str:
        del found
        self._base = self._kernel_pos or 0
        lines = self._data.decode("latin-1").split("\n")[:-1]
        self._text = ["-----", *lines, "-----"]
        return f"  record length at base = {len(self._data)}"

    def _readv(self, found: re.Match[str]) -> str:
        sizes = {"3x4096": [4096] * 3, "exact len? 482,4096": [482, 4096], "10,4096": [10, 4096]}
        os.lseek(self._fd, self._base, os.SEEK_SET)
        count, shown = _attempt(os.readv, self._fd, [bytearray(n) for n in sizes[found[1]]])
        assert self._tell() == self._base + (count if isinstance(count, int) else 0)
        return f"  readv({found[1]}) -> {shown} f_pos {_hex(self._tell())}"

    def _high_order(self, found: re.Match[str]) -> str:
        del found
        self._go_to(0)
        while data := os.read(self._fd, 4096):
            order, pfn = _ORDER.match(data), _PFN.search(data)
            assert order is not None
            assert pfn is not None
            if int(order[1]) >= 2:
                self._kernel_pos = int(pfn[1], 16) + 1
                return f"  first order>=2 record: PFN {int(pfn[1], 16):#x} order {int(order[1])}"
        return "  no record of order>=2"

    def _end(self, found: re.Match[str]) -> str:
        self._go_to(0)
        lengths, pfns = [], [0]
        while data := os.read(self._fd, 65536):
            lengths.append(len(data))
            pfns += [int(pfn, 16) for pfn in _PFN.findall(data)]
        rising = int(all(a < b for a, b in itertools.pairwise(pfns)))
        self._kernel_pos = int(found["last"], 16) + 1
        return (
            f"  records {len(lengths)} bytes {sum(lengths)} min {min(lengths)} max {max(lengths)} "
            f"avg {sum(lengths) / len(lengths):.1f} last PFN {pfns[-1]:#x} monotonic={rising} "
            f"final read -> {len(data)}"
        )

    def _dup(self, found: re.Match[str]) -> str:
        original = self._fd
        self._fd, self._opened = os.dup(original), original
        return found[0]

    def _orig(self, found: re.Match[str]) -> str:
        os.close(self._fd)
        self._fd, self._opened = self._opened, -1
        return found[0]

    def _call(self, found: re.Match[str]) -> str:
        _, shown = _attempt(_CALLS[found["call"]], self, self._fd)
        return f"  {found['call']} -> {_padded_result(shown)}"

    def _poll(self, found: re.Match[str]) -> str:
        del found
        poll = select.poll()
        poll.register(self._fd, select.POLLIN | select.POLLPRI | select.POLLOUT)
        events = poll.poll(0)
        return f"  poll -> {len(events)} revents {events[0][1]:#x}"

    def _open(self, found: re.Match[str]) -> str:
        if self._opened >= 0:
            os.close(self._opened)
            self._opened = -1
        flags = 0
        for name in found["flags"].split(" ")[0].split("|"):
            flags |= getattr(os, name)
        fd, shown = _attempt(os.open, self._here(found["path"]), flags)
        if isinstance(fd, int):
            self._opened, shown = fd, "ok "
        return f"  open({found['path']},{found['flags']}) -> {shown}"

    def _on_opened(self, found: re.Match[str]) -> str:
        fd = self._opened
        calls: dict[str, Callable[[], object]] = {
            "write": lambda: os.write(fd, b"x"),
            "read": lambda: os.read(fd, 4096),
            "ftruncate": lambda: os.ftruncate(fd, 0),
        }
        _, shown = _attempt(calls[found[1]])
        return f"     {found[1]} -> {_padded_result(shown)}"

    # Calls that take an open file.

    def _mmap(self, fd: int) -> object:
        # The recording does not say which kind. With direct_io FUSE has no shared mapping either,
        # only a private one.
        args = (None, ctypes.c_size_t(4096), 1, 1, fd, ctypes.c_long(0))  # PROT_READ, MAP_SHARED
        return _libc_call("mmap", *args)

    def _to_tmpfs(self, fd: int, copy: Callable[[int, int], object]) -> object:
        target = os.memfd_create("target")
        try:
            os.lseek(fd, self._base, os.SEEK_SET)
            return copy(fd, target)
        finally:
            os.close(target)

    def _splice(self, fd: int) -> object:
        ends = os.pipe()
        try:
            os.lseek(fd, self._base, os.SEEK_SET)
            return os.splice(fd, ends[1], _COPY_BYTES)
        finally:
            for end in ends:
                os.close(end)

    def _rename(self, fd: int) -> object:
        del fd
        return self._path.rename(self._root / "renamed")

    def _chmod(self, mode: int) -> None:
        self._path.chmod(mode)


# Room for one record of the recording but not for two.
_COPY_BYTES: Final = 600
_CALLS: Final[dict[str, Callable[[Replay, int], object]]] = {
    "mmap": Replay._mmap,
    "ioctl(FIONREAD)": lambda _, fd: fcntl.ioctl(fd, termios.FIONREAD, bytes(4)) and 0,
    "write on O_RDONLY": lambda _, fd: os.write(fd, b"x"),
    "ftruncate on O_RDONLY": lambda _, fd: os.ftruncate(fd, 0),
    "fsync": lambda _, fd: os.fsync(fd),
    "posix_fadvise": lambda _, fd: os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL),
    "sendfile to tmpfs": lambda self, fd: self._to_tmpfs(
        fd, lambda a, b: os.sendfile(b, a, None, _COPY_BYTES)
    ),
    "copy_file_range": lambda self, fd: self._to_tmpfs(
        fd, lambda a, b: os.copy_file_range(a, b, _COPY_BYTES)
    ),
    "splice to pipe": Replay._splice,
    "unlink(page_owner)": lambda self, _: self._path.unlink(),
    "chmod 0444": lambda self, _: self._chmod(0o444),
    "chmod 0400": lambda self, _: self._chmod(0o400),
    "rename": Replay._rename,
}
_LINES: Final[list[tuple[re.Pattern[str], Callable[[Replay, re.Match[str]], str]]]] = [
    (re.compile(pattern), method)
    for pattern, method in (
        (r"## .*", Replay._heading),
        (r"  stat (?P<path>\S+) (?:-> \w+|.* mtime (?P<mtime>\d+))", Replay._stat),
        (
            r"  read\((?P<size>\d+)\) -> .*  f_pos (?P<before>\w+) -> (?P<after>\w+)  PFN .*",
            Replay._read,
        ),
        (r"  read\(EFAULT\) -> .* f_pos (\w+)", Replay._read_bad_pointer),
        (r"  pread\(4096, off=(?P<off>\w+)\) -> .* \(f_pos now (?P<pos>\w+)\)", Replay._pread),
        (r"  lseek\((?P<offset>\w+),(?P<whence>\w+)\) -> (?P<result>\w+) \w*", Replay._lseek),
        (r"  record length at base = \d+", Replay._base_length),
        (r"  readv\((.*)\) -> .*", Replay._readv),
        (r"  first order>=2 record: .*", Replay._high_order),
        (r"  records .* last PFN (?P<last>\w+) .*", Replay._end),
        (r"  \(dup\)", Replay._dup),
        (r"  \(orig again\)", Replay._orig),
        (r"  poll -> .*", Replay._poll),
        (r"  open\((?P<path>\S+),(?P<flags>[^)]*)\) -> .*", Replay._open),
        (r"     (write|read|ftruncate) -> \S+.*", Replay._on_opened),
        (rf"  (?P<call>{'|'.join(map(re.escape, _CALLS))}) -> .*", Replay._call),
    )
]
