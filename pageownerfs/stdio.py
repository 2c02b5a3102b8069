"""Standard streams of the commands: they may be closed, full, or read by nobody."""

from __future__ import annotations

import errno
import os
import sys
from typing import Final

# What write() may say of a stream.
_OUTPUT_ERRORS: Final = frozenset(
    (errno.EBADF, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EAGAIN)
)


def fill_closed() -> None:
    """
    Open what the caller has closed, so that no file gets the number of a standard stream.

    Reading standard input and writing standard output fail then as on a closed one (EBADF);
    what is written to standard error is lost.
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
    """Write a line to standard error, if that can be written."""
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        _to_null(2)


def drop_output() -> None:
    """Forget what could not be written to standard output: Python would try again at exit."""
    _to_null(1)


def describe(error: OSError) -> str:
    """Tell an error in a line: of the file that it names, or of standard output."""
    reason = error.strerror or str(error)
    if error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {reason}"
    return f"standard output: {reason}" if error.errno in _OUTPUT_ERRORS else reason


def _to_null(number: int) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, number)
    os.close(null)
