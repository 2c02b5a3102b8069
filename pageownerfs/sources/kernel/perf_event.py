"""Open tracepoints as perf events, through which BPF programs of type tracepoint are called."""

from __future__ import annotations

import ctypes
import os
from typing import Final

from .pseudo_fs import read_tracefs

_PERF_TYPE_TRACEPOINT: Final = 2
_PERF_FLAG_FD_CLOEXEC: Final = 8
_ANY_PROCESS: Final = -1
_NO_GROUP: Final = -1
# Numbers of perf_event_open(2); of include/uapi/asm-generic/unistd.h unless listed.
_GENERIC_NUMBER: Final = 241
_NUMBERS: Final = {"x86_64": 298, "ppc64le": 319, "s390x": 331}


class _PerfEventAttr(ctypes.Structure):
    """The first version of struct perf_event_attr, which every kernel accepts."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("config", ctypes.c_uint64),
        ("unused", ctypes.c_uint64 * 6),
    )


def open_tracepoint(name: str) -> int:
    """
    Open a tracepoint. Programs that are attached to it are called on all CPUs.

    :param name: ``kmem/mm_page_alloc``
    :return: file descriptor
    :raises OSError: there is no such tracepoint, or no permission
    """
    attr = _PerfEventAttr(
        type=_PERF_TYPE_TRACEPOINT,
        size=ctypes.sizeof(_PerfEventAttr),
        config=int(read_tracefs(f"events/{name}/id")),
    )
    arguments = (_ANY_PROCESS, min(os.sched_getaffinity(0)), _NO_GROUP, _PERF_FLAG_FD_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    # syscall() reads whole registers, but ctypes would pass an int as 32 bits.
    fd = libc.syscall(
        ctypes.c_long(_NUMBERS.get(os.uname().machine, _GENERIC_NUMBER)),
        ctypes.byref(attr),
        *(ctypes.c_long(argument) for argument in arguments),
    )
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"perf_event_open: {os.strerror(number)}")
    return int(fd)
