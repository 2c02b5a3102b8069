"""Leak 64 MiB of kernel memory, so that page_owner of the kernel source has something to show.

    leak.py [pipe|tmpfs|anon]

pipe fills pipes that nobody reads, tmpfs writes an unnamed file in memory (memfd), and anon
touches memory of its own; without an operand the program does all three, one after the other.
Meanwhile its name is leak_pipe, leak_tmpfs or leak_anon, and the records of the pages show that
name. It prints one line per leak and then keeps everything until its standard input is closed.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

LEAK_BYTES: Final = 64 << 20
PIPE_BYTES: Final = 1 << 20

# Everything reachable from here is leaked.
_held: list[object] = []


def leak_pipe() -> int:
    """Fill pipes until they take no more."""
    done, data = 0, bytes(PIPE_BYTES)
    while done < LEAK_BYTES:
        _, writer = os.pipe()
        os.set_blocking(writer, False)
        # A user who has many pipes gets only small ones.
        with suppress(OSError):
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        with suppress(BlockingIOError):
            while done < LEAK_BYTES:
                done += os.write(writer, data)
    return done


def leak_tmpfs() -> int:
    """Write a file in memory."""
    file, done, data = os.memfd_create("leak"), 0, bytes(1 << 20)
    while done < LEAK_BYTES:
        done += os.write(file, data)
    return done


def leak_anon() -> int:
    """Touch each page of a mapping."""
    memory = mmap.mmap(-1, LEAK_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for offset in range(0, LEAK_BYTES, mmap.PAGESIZE):
        memory[offset] = 1
    _held.append(memory)
    return LEAK_BYTES


LEAKS: Final[dict[str, Callable[[], int]]] = {
    "pipe": leak_pipe,
    "tmpfs": leak_tmpfs,
    "anon": leak_anon,
}


def main() -> int:
    """Leak, report it, and wait."""
    modes = sys.argv[1:] or list(LEAKS)
    if len(modes) > len(LEAKS) or not set(modes) <= LEAKS.keys():
        print(f"usage: leak.py [{'|'.join(LEAKS)}]", file=sys.stderr)
        return 2
    comm = Path("/proc/self/comm")
    for mode in modes:
        comm.write_text(f"leak_{mode}")
        done = LEAKS[mode]()
        print(f"leak_{mode}, pid {os.getpid()}: {done >> 20} MiB", flush=True)
    comm.write_text("leak")
    sys.stdin.buffer.read()
    return 0


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        raise SystemExit(130) from None
