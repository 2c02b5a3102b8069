"""Standard streams of the commands, which may be closed, full, or a broken pipe."""

from __future__ import annotations

import errno
import os
import sys
from typing import Final

# Errors that write() may return for a standard stream.
_OUTPUT_ERRORS: Final = frozenset(
    (errno.EBADF, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EAGAIN)
)


def fill_closed() -> None:
    """
    Open the standard streams that the caller closed, so that no other file gets their number.

    Reading standard input and writing standard output then fail as on a closed stream (EBADF).
    Text written to standard error is lost.
    """
    for number, flags in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)
            os.set_inheritable(number, True)
    if sys.stderr is None:
        sys.stderr = open(2, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115 - to the end


def say(text: str) -> None:
    """Write a line to standard error; ignore errors."""
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        _to_null(2)


def drop_output() -> None:
    """Discard output that could not be written; Python would try to write it again at exit."""
    _to_null(1)


def describe(error: OSError) -> str:
    """Format an error as one line that names its file, or standard output."""
    reason = error.strerror or str(error)
    if error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {reason}"
    return f"standard output: {reason}" if error.errno in _OUTPUT_ERRORS else reason


def _to_null(number: int) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, number)
    os.close(null)
