"""Load page_owner.bpf.o, and access its programs and maps."""

from __future__ import annotations

import ctypes
import mmap
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from pageownerfs.errors import MountError

from .libbpf import check, check_pointer, library
from .perf_event import open_tracepoint

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

OBJECT_PATH: Final = Path(__file__).parents[2] / "native" / "bpf" / "page_owner.bpf.o"
"""The programs, compiled when the package is built."""
_LOG_BYTES: Final = 1 << 20


class _ProgInfo(ctypes.Structure):
    # struct bpf_prog_info up to recursion_misses
    _fields_ = (
        ("head", ctypes.c_uint32 * 2),
        ("tag", ctypes.c_uint8 * 8),
        ("before", ctypes.c_uint8 * 176),
        ("run_time_ns", ctypes.c_uint64),
        ("run_cnt", ctypes.c_uint64),
        ("recursion_misses", ctypes.c_uint64),
    )


class _TestRunOpts(ctypes.Structure):
    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("pointers", ctypes.c_void_p * 4),
        ("sizes", ctypes.c_uint32 * 4),
        ("retval", ctypes.c_uint32),
        ("repeat", ctypes.c_int),
        ("duration", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    )


def check_object() -> None:
    """
    Check that the package was built with its BPF programs.

    :raises MountError: it was not, because there was no clang
    """
    if not OBJECT_PATH.exists():
        msg = (
            f"{OBJECT_PATH.name} does not exist: pageownerfs was built without clang; "
            "apt install clang libbpf-dev, and install it again"
        )
        raise MountError(msg)


class BpfObject:
    """
    A loaded copy of the object; close(), or the end of the process, detaches and frees all of it.

    Create it, set values, then call load() and attach().
    """

    def __init__(self) -> None:
        """
        Open the object file.

        :raises MountError: libbpf is missing, or the package was built without the programs
        """
        self._lib = library()
        check_object()
        path = str(OBJECT_PATH).encode()
        self._object: int | None = check_pointer(
            self._lib.bpf_object__open_file(path, None), OBJECT_PATH.name
        )
        self._links: dict[str, int] = {}
        self._lock = threading.Lock()
        self._log = ctypes.create_string_buffer(_LOG_BYTES)

    def __enter__(self) -> Self:
        """Return the object; the end of the ``with`` block closes it."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Detach and free everything."""
        self.close()

    def close(self) -> None:
        """
        Detach the programs, and free them and the maps; mapped maps live until unmapped.

        Waits for calls in other threads. Afterwards no program runs, and no map has entries.
        """
        with self._lock:
            for name in list(self._links):
                self.detach(name)
            if self._object is not None:
                self._lib.bpf_object__close(self._object)
                self._object = None

    # Before load()

    def programs(self) -> Iterator[tuple[str, int]]:
        """Yield the name and libbpf's handle of each program."""
        program = self._lib.bpf_object__next_program(self._object, None)
        while program:
            yield self._lib.bpf_program__name(program).decode(), program
            program = self._lib.bpf_object__next_program(self._object, program)

    def select(self, wanted: Mapping[str, str | None]) -> None:
        """
        Select the programs to load.

        :param wanted: name -> function to attach to; None for the target that the program names
        """
        for name, program in self.programs():
            load = name in wanted
            check(self._lib.bpf_program__set_autoload(program, load), name)
            target = wanted.get(name)
            if target is not None:
                check(
                    self._lib.bpf_program__set_attach_target(program, 0, target.encode()), target
                )

    def resize(self, name: str, max_entries: int) -> None:
        """Set the maximum number of entries of a map."""
        check(self._lib.bpf_map__set_max_entries(self._map(name), max_entries), name)

    def leave_out(self, name: str) -> None:
        """Don't create a map that no reachable code of the programs uses."""
        check(self._lib.bpf_map__set_autocreate(self._map(name), False), name)

    def set_value(self, name: str, value: ctypes.Structure) -> None:
        """Set the constants of the programs: the whole value of the data map ``name``."""
        size = ctypes.c_size_t()
        address = self._lib.bpf_map__initial_value(self._map(name), ctypes.byref(size))
        if not address or size.value < ctypes.sizeof(value):
            msg = (
                f"{OBJECT_PATH.name} is of another version ({name} has {size.value} bytes): "
                "install pageownerfs again"
            )
            raise MountError(msg)
        ctypes.memmove(address, ctypes.byref(value), ctypes.sizeof(value))

    def load(self) -> None:
        """
        Load the maps and programs into the kernel.

        :raises OSError: the kernel refused; the message ends with the verifier's last lines
        """
        for name, program in self.programs():
            del name
            self._lib.bpf_program__set_log_buf(program, self._log, _LOG_BYTES)
        result = self._lib.bpf_object__load(self._object)
        if result < 0:
            words = self._log.value.decode(errors="replace").strip().splitlines()[-6:]
            check(result, "; ".join(["the kernel refused page_owner.bpf.o", *words]))

    # After load()

    def _map(self, name: str) -> int:
        bpf_map = self._lib.bpf_object__find_map_by_name(self._object, name.encode())
        return check_pointer(bpf_map, f"map {name}")

    def _program(self, name: str) -> int:
        program = self._lib.bpf_object__find_program_by_name(self._object, name.encode())
        return check_pointer(program, f"program {name}")

    def map_fd(self, name: str) -> int:
        """Return the file descriptor of a map."""
        return check(self._lib.bpf_map__fd(self._map(name)), name)

    def program_fd(self, name: str) -> int:
        """Return the file descriptor of a program."""
        return check(self._lib.bpf_program__fd(self._program(name)), name)

    def mmap(self, name: str, size: int, *, writable: bool = False) -> mmap.mmap:
        """Map the values of a map into memory, read-only unless ``writable``."""
        access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        return mmap.mmap(self.map_fd(name), size, mmap.MAP_SHARED, access)

    def attach(self, name: str) -> None:
        """
        Attach a program to its target.

        :raises OSError: the kernel refused
        """
        program = self._program(name)
        kind, _, target = self._lib.bpf_program__section_name(program).decode().partition("/")
        if kind == "tp":
            # libbpf would need a mounted tracefs. The link closes the file descriptor.
            link = self._lib.bpf_program__attach_perf_event(program, open_tracepoint(target))
        else:
            link = self._lib.bpf_program__attach(program)
        self._links[name] = check_pointer(link, name)

    def detach(self, name: str) -> None:
        """Detach a program; no-op if it is not attached."""
        link = self._links.pop(name, None)
        if link is not None:
            self._lib.bpf_link__destroy(link)

    @property
    def attached(self) -> list[str]:
        """Names of the attached programs."""
        return list(self._links)

    def run(self, name: str) -> None:
        """
        Run a ``syscall`` program once, in this process (BPF_PROG_TEST_RUN).

        :raises OSError: the kernel did not run it
        """
        opts = _TestRunOpts(sz=ctypes.sizeof(_TestRunOpts))
        check(self._lib.bpf_prog_test_run_opts(self.program_fd(name), ctypes.byref(opts)), name)

    def recursion_misses(self, name: str) -> int:
        """Return how often a program was skipped because it was running on that CPU already.

        This is recursion_misses of struct bpf_prog_info; 0 after close().
        """
        info = _ProgInfo()
        size = ctypes.c_uint32(ctypes.sizeof(info))
        with self._lock:
            if self._object is not None:
                fd, pointers = self.program_fd(name), (ctypes.byref(info), ctypes.byref(size))
                check(self._lib.bpf_obj_get_info_by_fd(fd, *pointers), name)
        return int(info.recursion_misses)

    def lookup(
        self,
        name: str,
        key: bytes,
        value: ctypes.Structure | ctypes.Array[ctypes.c_char] | ctypes.c_uint32,
    ) -> bool:
        """Read an entry of a hash map into ``value``; return whether it exists."""
        key_buffer = ctypes.create_string_buffer(key, len(key))
        with self._lock:
            if self._object is None:
                return False
            fd = self.map_fd(name)
            found = self._lib.bpf_map_lookup_elem(fd, key_buffer, ctypes.byref(value))
        return bool(found == 0)

    def set_fd(self, name: str, fd: int) -> None:
        """
        Set the first entry of an array of kernel objects.

        :raises OSError: EBADF: the descriptor is not one of such an object
        """
        key, value = ctypes.c_uint32(), ctypes.c_uint32(fd)
        result = self._lib.bpf_map_update_elem(
            self.map_fd(name), ctypes.byref(key), ctypes.byref(value), 0
        )
        check(result, name)

    def keys(self, name: str, size: int) -> bytes:
        """Return all keys of a hash map, ``size`` bytes each."""
        found, key, following = b"", None, ctypes.create_string_buffer(size)
        with self._lock:
            if self._object is None:
                return found
            fd = self.map_fd(name)
            while self._lib.bpf_map_get_next_key(fd, key, following) == 0:
                found += following.raw
                key = ctypes.create_string_buffer(following.raw, size)
        return found
