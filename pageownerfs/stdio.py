"""Standard streams of the commands: they may be closed, full, or read by nobody."""

from __future__ import annotations

import os
import sys


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
    """Tell an error in a line; without a file's name it is of standard output."""
    names = [name for name in (error.filename, error.filename2) if name is not None]
    where = " -> ".join(
        os.fsdecode(name) if isinstance(name, bytes) else str(name) for name in names
    )
    return f"{where or 'standard output'}: {error.strerror or error}"


def _to_null(number: int) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, number)
    os.close(null)
