"""A program that leaks 64 MiB of the kernel's memory, for the page_owner of the kernel source.

    leak.py [pipe|tmpfs|anon]

pipe: fill pipes that nobody reads. tmpfs: write a file that has no name (memfd). anon: write to
memory of its own. Without an operand all three, one after the other. While it does so its name is
leak_pipe, leak_tmpfs or leak_anon, which is what the records of the pages say. Each leak is one
line of output; then it waits, with all that it holds, for the end of its standard input.
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

# What is leaked is what is reachable from here.
_held: list[object] = []


def leak_pipe() -> int:
    """Fill pipes to the brim."""
    done, data = 0, bytes(PIPE_BYTES)
    while done < LEAK_BYTES:
        _, writer = os.pipe()
        os.set_blocking(writer, False)
        # A user's pipes stay small once there are many of them.
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
    """Leak, say so, wait."""
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
