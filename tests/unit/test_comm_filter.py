"""-o comm=: patterns, and the bits with which the programs match them."""

from __future__ import annotations

import random
import re

import pytest

from pageownerfs.sources.kernel.comm_filter import CommPatterns, parse_comm


def matches(filter_: CommPatterns, comm: bytes) -> bool:
    """Match a name as comm_matches() of page_owner.bpf.c does."""
    bits, nr_words = filter_.compile()
    state = list(bits.start)
    for byte in comm:
        for word in range(nr_words):
            moved = (state[word] & bits.advance[byte][word]) << 1
            state[word] = (moved | state[word] & bits.stay[word]) & (1 << 64) - 1
    return any(left & right for left, right in zip(state, bits.end, strict=True))


@pytest.mark.parametrize(
    ("text", "same", "other"),
    [
        ("java", [b"java"], [b"jav", b"javac", b"xjava", b"", b"JAVA"]),
        ("nginx*", [b"nginx", b"nginx: worker"], [b"ngin", b"xnginx"]),
        ("*d", [b"d", b"sshd", b"dd"], [b"sshd2", b""]),
        ("k*/0*", [b"kworker/0:1", b"k/0"], [b"kworker/1:0", b"k0"]),
        ("*a*b*", [b"ab", b"xaxxbx", b"ba b"], [b"ba", b"a"]),
        ("java:nginx*", [b"java", b"nginx2"], [b"java:nginx", b"javax"]),
        (r"kworker/0\:1", [b"kworker/0:1"], [b"kworker/0", b"1"]),
        (r"a\*b", [b"a*b"], [b"aXb", b"ab"]),
        (r"a\\b", [rb"a\b"], [b"ab"]),
        ("*", [b"", b"anything", b"\xff" * 15], []),
        ("na\udcffme", [b"na\xffme"], [b"name"]),
        ("123456789012345", [b"123456789012345"], [b"12345678901234"]),
        ("a**b", [b"ab", b"axb"], [b"a"]),
    ],
)
def test_patterns(text: str, same: list[bytes], other: list[bytes]) -> None:
    """A pattern matches whole names; * is any number of bytes."""
    parsed = parse_comm(text)
    assert [comm for comm in same if not matches(parsed, comm)] == []
    assert [comm for comm in other if matches(parsed, comm)] == []


def test_against_regular_expressions() -> None:
    """Random patterns over a small alphabet match exactly what regular expressions match."""
    rng = random.Random(14)
    for _ in range(300):
        names = [
            "".join(rng.choices("ab*", k=rng.randint(1, 9))) for _ in range(rng.randint(1, 8))
        ]
        parsed = parse_comm(":".join(names))
        wanted = re.compile("|".join(name.replace("*", ".*") for name in names).encode())
        for _ in range(40):
            comm = bytes(rng.choices(b"ab", k=rng.randint(0, 15)))
            assert matches(parsed, comm) == bool(wanted.fullmatch(comm)), (names, comm)


def test_room() -> None:
    """Names of 15 bytes fill the room four by four; one more is too many."""
    names = [f"name_of_15_by{number:02d}" for number in range(16)]
    parsed = parse_comm(":".join(names))
    assert parsed.compile()[1] == 4
    assert all(matches(parsed, name.encode()) for name in names)
    assert not matches(parsed, b"name_of_15_by16")
    with pytest.raises(ValueError, match="too many names: use fewer, or patterns"):
        parse_comm(":".join([*names, "x"]))


@pytest.mark.parametrize("text", ["", ":", "a:", "sixteen_bytes_16", "a:*sixteen_bytes_16"])
def test_wrong_lengths(text: str) -> None:
    """A name is neither empty nor longer than a thread's name."""
    with pytest.raises(ValueError, match="names of 1 to 15 bytes, joined by colons"):
        parse_comm(text)


def test_lonely_backslash() -> None:
    """A backslash needs a byte that it makes ordinary."""
    with pytest.raises(ValueError, match="ends with a backslash"):
        parse_comm("a\\")
