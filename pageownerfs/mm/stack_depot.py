"""
Format call stacks, innermost frame first (lib/stackdepot.c, stack_trace_snprint()).

A Python frame prints as the kernel prints its own (``%pS``), so that every tool that parses
page_owner can parse it.
"""

import unicodedata
from collections.abc import Iterable
from typing import Final, NamedTuple

KSYM_NAME_LEN: Final = 512
"""Bytes of a kernel symbol's name with its terminating NUL: the name itself has up to 511."""
STACKDEPOT_MAX_FRAMES: Final = 64
"""Maximum number of frames in a stack (CONFIG_STACKDEPOT_MAX_FRAMES)."""

# Unicode categories of control, format (such as direction marks), line, paragraph and space
# characters: in a name, they would break the line or make it read differently.
_UNCLEAN: Final = frozenset(("Cc", "Cf", "Zl", "Zp", "Zs"))


class Frame(NamedTuple):
    """One frame of a call stack."""

    name: str
    """Qualified name of the function; empty = unknown."""
    module: str
    """Module that defines the function; empty = none, or unknown."""
    offset: int
    """Bytes of bytecode from the function's start to the call, ``[0, size)``."""
    size: int
    """Bytes of bytecode of the function."""
    filename: str
    """Source file; empty = unknown."""
    lineno: int
    """Line of the call in the source file, from 1; 0 = unknown."""


def clean_name(name: str) -> bytes:
    r"""
    Return a name in a form that fits into a line of a stack.

    >>> clean_name("two words\n")
    b'two_words_'

    :param name: any text
    :return: up to 511 bytes of UTF-8; blanks and control characters become ``_``, characters that
        can't be encoded become ``\udcXX``
    """
    encoded = _clean(name)
    if len(encoded) < KSYM_NAME_LEN:
        return encoded
    # Don't cut a character in two.
    return encoded[: KSYM_NAME_LEN - 1].decode(errors="ignore").encode()


def format_frame(frame: Frame) -> bytes:
    r"""
    Format a frame as a line of page_owner: a blank, then ``%pS``.

    >>> format_frame(Frame("Buffer.fill", "app", 26, 48, "app.py", 7))
    b' Buffer.fill+0x1a/0x30 [app]\n'

    :param frame: a frame without a name prints only its offset, as an address without a symbol
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
    Format a stack as page_owner prints it.

    :param frames: innermost first
    :return: one line per frame; empty without frames
    """
    return b"".join(map(format_frame, frames))


def format_source_lines(frames: Iterable[Frame]) -> bytes:
    r"""
    Format a stack with source files and lines, for the description of a single page.

    The lines look like the output of the kernel's scripts/decode_stacktrace.sh:

    >>> format_source_lines([Frame("Buffer.fill", "app", 26, 48, "/srv/app.py", 7)])
    b' Buffer.fill (/srv/app.py:7) [app]\n'

    :param frames: innermost first; a frame without a source file prints as in format_stack()
    :return: one line per frame; empty without frames
    """
    return b"".join(map(_format_source_line, frames))


def _format_source_line(frame: Frame) -> bytes:
    if not frame.filename:
        return format_frame(frame)
    # A blank inside the parentheses is harmless, and the path can still be copied.
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
