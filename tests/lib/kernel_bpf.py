"""The BPF programs and maps of a process, and whether they are still in the kernel."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

# bpf(2), see linux/bpf.h.
_SYS_BPF: Final = {"x86_64": 321, "aarch64": 280}
_PROG_GET_FD_BY_ID: Final = 13
_MAP_GET_FD_BY_ID: Final = 14
_OBJ_GET_INFO_BY_FD: Final = 15
_MAP_NAME: Final = slice(24, 40)  # of struct bpf_map_info

_libc = ctypes.CDLL(None, use_errno=True)


class BpfIds(NamedTuple):
    """Ids of BPF objects."""

    programs: frozenset[int]
    maps: frozenset[int]


def _bpf(command: int, *words: int) -> int:
    attr = (ctypes.c_uint32 * 32)(*words)
    number = _SYS_BPF[platform.machine()]
    return int(_libc.syscall(number, command, ctypes.byref(attr), ctypes.sizeof(attr)))


def bpf_ids(pid: int) -> BpfIds:
    """Return the objects that a process holds, according to its descriptors."""
    found: dict[str, set[int]] = {"prog_id:": set(), "map_id:": set()}
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):
            for line in path.read_text().splitlines():
                name, _, value = line.partition("\t")
                if name in found:
                    found[name].add(int(value))
    return BpfIds(frozenset(found["prog_id:"]), frozenset(found["map_id:"]))


def _open(command: int, number: int) -> int | None:
    fd = _bpf(command, number)
    if fd >= 0:
        return fd
    error = ctypes.get_errno()
    if error != errno.ENOENT:
        raise OSError(error, os.strerror(error))
    return None


def bpf_left(ids: BpfIds) -> BpfIds:
    """Return the objects that are still in the kernel."""
    left = []
    for command, numbers in zip((_PROG_GET_FD_BY_ID, _MAP_GET_FD_BY_ID), ids, strict=True):
        there = set()
        for number in numbers:
            fd = _open(command, number)
            if fd is not None:
                os.close(fd)
                there.add(number)
        left.append(frozenset(there))
    return BpfIds(*left)


def _map_name(fd: int) -> bytes:
    info = ctypes.create_string_buffer(88)
    pointer = ctypes.addressof(info)
    assert _bpf(_OBJ_GET_INFO_BY_FD, fd, len(info), pointer & 0xFFFFFFFF, pointer >> 32) == 0
    return info.raw[_MAP_NAME].rstrip(b"\0")


@contextlib.contextmanager
def opened_map(pid: int, name: str) -> Iterator[int]:
    """Yield our own descriptor of another process's map."""
    for number in bpf_ids(pid).maps:
        fd = _open(_MAP_GET_FD_BY_ID, number)
        if fd is None:
            continue
        try:
            if _map_name(fd) == name.encode()[:15]:
                yield fd
                return
        finally:
            os.close(fd)
    raise LookupError(f"process {pid} has no BPF map {name}")


@contextlib.contextmanager
def mapped_map(pid: int, name: str, size: int) -> Iterator[mmap.mmap]:
    """Map the first ``size`` bytes of another process's map for reading."""
    with opened_map(pid, name) as fd:
        # Writable, because ctypes finds the address of no other buffer.
        memory = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    try:
        yield memory
    finally:
        memory.close()
