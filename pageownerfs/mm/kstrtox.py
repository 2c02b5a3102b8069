"""
Parse numbers and booleans as the kernel does: lib/kstrtox.c, lib/cmdline.c.

Mount options and writes to files of the mount use these functions, so that they accept the same
spellings as the kernel's command line and debugfs.
"""

import re
from typing import Final

_TRUE: Final = "yYtT1"
_FALSE: Final = "nNfF0"
_MEMPARSE: Final = re.compile(r"(0[xX][0-9a-fA-F]+|[0-9]+)\s*([kKmMgGtT]?)(i?[bB])?")
_KSTRTOULL: Final = re.compile(
    r"\+?(?:0[xX]([0-9a-fA-F]{1,100})|(0[0-7]{0,100})|([1-9][0-9]{0,100}))"
)
_SHIFTS: Final = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


def kstrtobool(text: str) -> bool:
    """
    Parse a boolean: on/off, 1/0, y/n, yes/no, t/f, true/false.

    Mirrors kstrtobool(): the first character decides, or the first two for on and off; the rest is
    ignored.

    :raises ValueError: ``text`` is not a boolean
    """
    first = text[:1]
    if first and first in _TRUE:
        return True
    if first and first in _FALSE:
        return False
    if first in ("o", "O"):
        if text[1:2] in ("n", "N"):
            return True
        if text[1:2] in ("f", "F"):
            return False
    msg = f"{text!r} is not a boolean: write on or off, 1 or 0, y or n"
    raise ValueError(msg)


def kstrtoull(text: str) -> int:
    """
    Parse an unsigned 64-bit number: decimal, hexadecimal with 0x, octal with 0.

    Mirrors kstrtoull() with base 0: one newline may follow; a plus sign is accepted, but no blanks
    and no minus sign.

    :raises ValueError: ``text`` is not a number
    :raises OverflowError: the number has more than 64 bits (the kernel's ERANGE)
    """
    match = _KSTRTOULL.fullmatch(text.removesuffix("\n"))
    if match is None:
        msg = f"{text!r} is not a number: write 10, 0xa or 012"
        raise ValueError(msg)
    hexadecimal, octal, decimal = match.groups()
    number = int(hexadecimal or octal or decimal, 16 if hexadecimal else 8 if octal else 10)
    if number >> 64:
        msg = f"{text!r} has more than 64 bits"
        raise OverflowError(msg)
    return number


def memparse(text: str) -> int:
    """
    Parse a size in bytes: ``4096``, ``0x1000``, ``256M``, ``1G``, ``1GiB``, ``1g``.

    Mirrors memparse(): K, M, G and T are powers of 1024. Unlike in the kernel, only B or iB may
    follow the number or its suffix.

    :raises ValueError: ``text`` is not a size
    """
    match = _MEMPARSE.fullmatch(text.strip())
    if match is None:
        msg = f"{text!r} is not a size: write bytes, or a number with K, M, G or T, as in 256M"
        raise ValueError(msg)
    number, suffix, _ = match.groups()
    return int(number, 0 if number[:2] in ("0x", "0X") else 10) << _SHIFTS[suffix.lower()]


def format_size(nr_bytes: int) -> str:
    """Format a size for people: ``256M``, ``1.5G``, ``4096``; one decimal, rounded down."""
    for suffix, shift in (("T", 40), ("G", 30), ("M", 20), ("K", 10)):
        if nr_bytes >= 1 << shift:
            tenths = nr_bytes * 10 >> shift
            whole, tenth = divmod(tenths, 10)
            return f"{whole}.{tenth}{suffix}" if tenth else f"{whole}{suffix}"
    return str(nr_bytes)
