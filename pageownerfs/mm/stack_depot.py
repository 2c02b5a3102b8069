"""
Text of a call stack, innermost frame first (lib/stackdepot.c, stack_trace_snprint()).

A frame of Python prints as the kernel prints one of its own (``%pS``), so that every tool that
parses page_owner parses it too.
"""

import unicodedata
from collections.abc import Iterable
from typing import Final, NamedTuple

KSYM_NAME_LEN: Final = 512
"""Bytes of a symbol's name with its closing NUL, in the kernel: a name has 511 at most."""
STACKDEPOT_MAX_FRAMES: Final = 64
"""Frames that a stack can have (CONFIG_STACKDEPOT_MAX_FRAMES)."""

# Control, format (direction marks and the like), line, paragraph and space characters: one of
# them in a name would break a line in two, or show as something else.
_UNCLEAN: Final = frozenset(("Cc", "Cf", "Zl", "Zp", "Zs"))


class Frame(NamedTuple):
    """One call of a stack."""

    name: str
    """Qualified name of the function; empty = not known."""
    module: str
    """Module that defines it; empty = none, or not known."""
    offset: int
    """Bytes of bytecode from the function's start to the call, ``[0, size)``."""
    size: int
    """Bytes of bytecode of the function."""
    filename: str
    """Source file; empty = not known."""
    lineno: int
    """Line of the call in that file, from 1; 0 = not known."""


def clean_name(name: str) -> bytes:
    r"""
    Make a name fit into a line of a stack.

    >>> clean_name("two words\n")
    b'two_words_'

    :param name: any text
    :return: UTF-8 of at most 511 bytes: blanks and control characters are ``_``, what can't be
        encoded is ``\udcXX``
    """
    encoded = _clean(name)
    if len(encoded) < KSYM_NAME_LEN:
        return encoded
    # Not in the middle of a character.
    return encoded[: KSYM_NAME_LEN - 1].decode(errors="ignore").encode()


def format_frame(frame: Frame) -> bytes:
    r"""
    Format a frame as a line of page_owner: a blank, then ``%pS``.

    >>> format_frame(Frame("Buffer.fill", "app", 26, 48, "app.py", 7))
    b' Buffer.fill+0x1a/0x30 [app]\n'

    :param frame: a frame; one without a name prints its offset only, as an address without symbol
    :return: one line with its newline
    """
    if not frame.name:
        return b" 0x%x\n" % frame.offset
    return b" %s+0x%x/0x%x%s\n" % (
        clean_name(frame.name),
        frame.offset,
        frame.size,
        _format_module(frame.module),
    )


def format_stack(frames: Iterable[Frame]) -> bytes:
    """
    Format a stack as page_owner does.

    :param frames: innermost first
    :return: one line per frame; empty without frames
    """
    return b"".join(map(format_frame, frames))


def format_source_lines(frames: Iterable[Frame]) -> bytes:
    r"""
    Format a stack with its places in the source, for where a page is looked at alone.

    Each line is as the kernel's scripts/decode_stacktrace.sh would make it:

    >>> format_source_lines([Frame("Buffer.fill", "app", 26, 48, "/srv/app.py", 7)])
    b' Buffer.fill (/srv/app.py:7) [app]\n'

    :param frames: innermost first; one without file prints as in format_stack()
    :return: one line per frame; empty without frames
    """
    return b"".join(map(_format_source_line, frames))


def _format_source_line(frame: Frame) -> bytes:
    if not frame.filename:
        return format_frame(frame)
    # A blank in a path is harmless inside of the parentheses, and the path stays one to copy.
    place = _clean(frame.filename, kept=" ")
    if frame.lineno > 0:
        place += b":%d" % frame.lineno
    return b" %s (%s)%s\n" % (clean_name(frame.name or "?"), place, _format_module(frame.module))


def _format_module(module: str) -> bytes:
    return b" [%s]" % clean_name(module) if module else b""


def _clean(text: str, kept: str = "") -> bytes:
    category = unicodedata.category
    cleaned = ("_" if category(char) in _UNCLEAN and char not in kept else char for char in text)
    return "".join(cleaned).encode(errors="backslashreplace")
