"""Format groups as tools/mm/page_owner_sort.c does, and write a file completely or not at all."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from pageownerfs import _native, stdio
from pageownerfs.errors import PageOwnerError

from . import keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO

    from pageownerfs._native import Group

    from .keys import Rules

STDOUT: Final = "-"
_BUFFER_BYTES: Final = 256 << 10

_ALLOCATOR_BITS: Final = (
    (_native.ALLOCATOR_CMA, "CMA "),
    (_native.ALLOCATOR_SLAB, "SLAB "),
    (_native.ALLOCATOR_VMALLOC, "VMALLOC "),
    (_native.ALLOCATOR_OTHERS, "OTHERS "),
)


def allocator_text(allocator: int) -> bytes:
    """
    Return the names of a group's allocators, as print_allocator() prints them.

    >>> allocator_text(5)
    b'allocated by CMA VMALLOC '

    :param allocator: ``ALLOCATOR_*`` bits of the C core
    """
    names = "".join(name for bit, name in _ALLOCATOR_BITS if allocator & bit)
    return f"allocated by {names}".encode()


_ALLOCATOR_TEXTS: Final = [allocator_text(bits) for bits in range(16)]


def format_groups(groups: Iterable[Group], rules: Rules) -> Iterator[bytes]:
    """
    Yield the text of each group, as main() of tools/mm/page_owner_sort.c prints it.

    :param groups: groups in the order of printing
    :param rules: the rules that the groups were made with
    """
    if not rules.cull:
        for group in groups:
            yield b"%d times, %d pages, %b:\n%b\n" % (
                group.times,
                group.pages,
                _ALLOCATOR_TEXTS[group.allocator],
                group.text,
            )
        return
    formats = _cull_formats(rules)
    for group in groups:
        head = b"%d times, %d pages" % (group.times, group.pages)
        yield b"".join((head, *(make(group) for make in formats), b"\n"))


def _cull_formats(rules: Rules) -> list[Callable[[Group], bytes]]:
    """Return functions for the parts of a culled group's line: its keys, and those selected by."""
    by: dict[keys.Key, Callable[[Group], bytes]] = {
        keys.PID: lambda group: b", PID %d" % (-1 if group.pid is None else group.pid),
        keys.TGID: lambda group: b", TGID %d" % (-1 if group.tgid is None else group.tgid),
        keys.NAME: lambda group: b", task_comm_name: " + (group.comm or b""),
        keys.MODULE: lambda group: b", module: " + group.module,
        keys.ALLOCATOR: lambda group: b", " + _ALLOCATOR_TEXTS[group.allocator],
        keys.FREE: lambda group: b" (RELEASED)" if group.free_ts_nsec else b" (UNRELEASED)",
        keys.STACKTRACE: lambda group: b":\n" + group.stacktrace,
    }
    selected = {
        keys.PID: rules.pids,
        keys.TGID: rules.tgids,
        keys.NAME: rules.names,
        keys.MODULE: rules.modules,
    }
    return [make for key, make in by.items() if key in rules.cull or selected.get(key) is not None]


@contextmanager
def open_output(path: str) -> Iterator[BinaryIO]:
    """
    Open a file for writing that keeps its old content unless the ``with`` block succeeds.

    The new content is written under another name in the same directory, then renamed. A device, a
    pipe, and standard output (``-``) are written to directly.

    :raises PageOwnerError: the file can't be written
    """
    try:
        if path == STDOUT:
            if sys.stdout is None:
                raise PageOwnerError("standard output is closed")
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        elif os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
            with open(path, "wb", buffering=_BUFFER_BYTES) as file:
                yield file
        else:
            yield from _renamed(os.path.realpath(path))
    except BrokenPipeError:
        raise
    except OSError as error:
        if path == STDOUT:
            stdio.drop_output()
        name = "standard output" if path == STDOUT else path
        raise PageOwnerError(f"{name}: {error.strerror or error}") from error


def _renamed(path: str) -> Iterator[BinaryIO]:
    mode = None
    if os.path.exists(path):
        mode = stat.S_IMODE(os.stat(path).st_mode)
        # Renaming would replace even a file without write permission: fail on it here.
        os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC))
    # Imported here because it takes longer than reading most dumps.
    import tempfile  # noqa: PLC0415

    # A unique name: an earlier run that was killed may have left its file.
    fd, new_path = tempfile.mkstemp(prefix=".page_owner_sort-", dir=os.path.dirname(path))
    with open(fd, "wb", buffering=_BUFFER_BYTES) as file:
        try:
            yield file
            file.flush()
            os.fchmod(fd, 0o666 & ~_umask() if mode is None else mode)
            os.rename(new_path, path)
        except BaseException:
            os.unlink(new_path)
            raise


def _umask() -> int:
    # The umask can't be read without setting it.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
