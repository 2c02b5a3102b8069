"""``-o comm=``: patterns of thread names, and the bits with which the programs match them."""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from pageownerfs.mm.page_ext import TASK_COMM_LEN

from . import maps

_ANY: Final = -1
_WORD_BITS: Final = 64


class CommPatterns(NamedTuple):
    """Patterns of thread names, as the option has them."""

    text: str
    """The value of the option."""
    patterns: tuple[tuple[int, ...], ...]
    """Bytes of each pattern; -1 stands for any number of bytes."""

    def compile(self) -> tuple[maps.CommFilter, int]:
        """Return the bits that match the patterns, and how many words of them are used."""
        compiled = maps.CommFilter()
        for pattern, (word, bit) in zip(self.patterns, _places(self.patterns), strict=True):
            position = 1 << bit
            compiled.start[word] |= position
            for byte in pattern:
                if byte == _ANY:
                    compiled.stay[word] |= position
                else:
                    compiled.advance[byte][word] |= position
                    position <<= 1
            compiled.end[word] |= position
        return compiled, max(word for word, _ in _places(self.patterns)) + 1


def parse_comm(text: str) -> CommPatterns:
    r"""
    Parse names joined by colons: ``*`` matches any bytes, ``\`` makes the next byte ordinary.

    :raises ValueError: a name is empty or too long, or there are too many
    """
    patterns: list[list[int]] = [[]]
    data = iter(os.fsencode(text))
    for byte in data:
        if byte == ord(":"):
            patterns.append([])
        elif byte == ord("*"):
            patterns[-1].append(_ANY)
        elif byte == ord("\\"):
            escaped = next(data, None)
            if escaped is None:
                raise ValueError(f"{text!r} ends with a backslash: write \\\\ for a backslash")
            patterns[-1].append(escaped)
        else:
            patterns[-1].append(byte)
    for pattern in patterns:
        if not pattern or _length(pattern) >= TASK_COMM_LEN:
            raise ValueError(
                f"{text!r} must be names of 1 to {TASK_COMM_LEN - 1} bytes, joined by colons"
            )
    found = CommPatterns(text, tuple(map(tuple, patterns)))
    if max(word for word, _ in _places(found.patterns)) >= maps.COMM_WORDS:
        raise ValueError(f"{text!r} has too many names: use fewer, or patterns with *")
    return found


def _length(pattern: list[int] | tuple[int, ...]) -> int:
    return sum(byte != _ANY for byte in pattern)


def _places(patterns: tuple[tuple[int, ...], ...]) -> list[tuple[int, int]]:
    # Word and lowest bit of each pattern. It takes a bit more than it has bytes, in one word.
    places, word, bit = [], 0, 0
    for pattern in patterns:
        nr_bits = _length(pattern) + 1
        if bit + nr_bits > _WORD_BITS:
            word, bit = word + 1, 0
        places.append((word, bit))
        bit += nr_bits
    return places
