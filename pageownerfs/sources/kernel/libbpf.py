"""
Declare the functions of libbpf.so.1 that are used here, through ctypes.

Loading a program needs neither a compiler nor kernel headers: libbpf adjusts the offsets in
page_owner.bpf.o to the types of the running kernel (CO-RE, /sys/kernel/btf/vmlinux).
"""

from __future__ import annotations

import ctypes
import functools
import os
from typing import Any, Final

from pageownerfs.errors import MountError

_LIBRARY: Final = "libbpf.so.1"
_P: Final = ctypes.c_void_p
_INT: Final = ctypes.c_int
_U32: Final = ctypes.c_uint32
_STR: Final = ctypes.c_char_p

# name: result, arguments
_FUNCTIONS: Final[dict[str, tuple[Any, ...]]] = {
    "libbpf_set_print": (_P, _P),
    "bpf_object__open_file": (_P, _STR, _P),
    "bpf_object__load": (_INT, _P),
    "bpf_object__close": (None, _P),
    "bpf_object__find_map_by_name": (_P, _P, _STR),
    "bpf_object__find_program_by_name": (_P, _P, _STR),
    "bpf_object__next_program": (_P, _P, _P),
    "bpf_map__fd": (_INT, _P),
    "bpf_map__set_max_entries": (_INT, _P, _U32),
    "bpf_map__set_autocreate": (_INT, _P, ctypes.c_bool),
    "bpf_map__initial_value": (_P, _P, ctypes.POINTER(ctypes.c_size_t)),
    "bpf_program__fd": (_INT, _P),
    "bpf_program__name": (_STR, _P),
    "bpf_program__set_autoload": (_INT, _P, ctypes.c_bool),
    "bpf_program__set_attach_target": (_INT, _P, _INT, _STR),
    "bpf_program__section_name": (_STR, _P),
    "bpf_program__attach": (_P, _P),
    "bpf_program__attach_perf_event": (_P, _P, _INT),
    "bpf_program__set_log_buf": (_INT, _P, _P, ctypes.c_size_t),
    "bpf_link__destroy": (_INT, _P),
    "bpf_map_lookup_elem": (_INT, _INT, _P, _P),
    "bpf_map_update_elem": (_INT, _INT, _P, _P, ctypes.c_uint64),
    "bpf_map_get_next_key": (_INT, _INT, _P, _P),
    "bpf_obj_get_info_by_fd": (_INT, _INT, _P, ctypes.POINTER(_U32)),
    "bpf_prog_test_run_opts": (_INT, _INT, _P),
    "bpf_prog_get_next_id": (_INT, _U32, ctypes.POINTER(_U32)),
    "bpf_link_get_next_id": (_INT, _U32, ctypes.POINTER(_U32)),
    "btf__load_vmlinux_btf": (_P,),
    "btf__free": (None, _P),
    "btf__find_by_name_kind": (ctypes.c_int32, _P, _STR, _U32),
    "btf__type_by_id": (_P, _P, _U32),
    "btf__name_by_offset": (_STR, _P, _U32),
}


@functools.cache
def library() -> ctypes.CDLL:
    """
    Load libbpf.so.1, with its messages off: its functions return errors.

    :raises MountError: libbpf is missing; says what to install
    """
    try:
        lib = ctypes.CDLL(_LIBRARY, use_errno=True)
    except OSError as error:
        msg = f"cannot load {_LIBRARY} ({error}): apt install libbpf1"
        raise MountError(msg) from error
    for name, (result, *arguments) in _FUNCTIONS.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    lib.libbpf_set_print(None)
    return lib


def check(result: int, what: str) -> int:
    """
    Return the result of a libbpf function.

    :raises OSError: the result is negative, a negated errno
    """
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")
    return result


def check_pointer(pointer: int | None, what: str) -> int:
    """
    Return the pointer that a libbpf function returned.

    :raises OSError: the pointer is NULL; errno says why
    """
    if not pointer:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return pointer
