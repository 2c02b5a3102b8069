"""The commands of page_owner's filters: which are accepted and which are refused."""

from __future__ import annotations

import errno
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageownerfs.views.filters import MODES, Filter, parse_filter
from pageownerfs.views.view import ViewError

NODES: Final = (0, 1, 2, 3, 7)
OLD: Final = Filter(2, frozenset({1}), (5, 6), (7,))


def parse(text: bytes, old: Filter = OLD) -> Filter:
    """Parse a command."""
    return parse_filter(text, old, NODES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", OLD),
        (b" \t\n", OLD),
        (b"\0\0", OLD),
        (b"mode=stack", OLD._replace(mode=0)),
        (b"mode=handle\n", OLD._replace(mode=1)),
        (b"mode=handle\n\0", OLD._replace(mode=1)),
        (b"mode=stack_handle", OLD._replace(mode=2)),
        (b"mode=handle mode=stack", OLD._replace(mode=0)),
        (b"nid=0", OLD._replace(nids=frozenset({0}))),
        (b"nid=0-3,7", OLD._replace(nids=frozenset(NODES))),
        (b"nid=,7,,2-2,", OLD._replace(nids=frozenset({2, 7}))),
        (b"nid=00003", OLD._replace(nids=frozenset({3}))),
        (b"pid=1", OLD._replace(pids=(1,))),
        (b"pid=", OLD._replace(pids=())),
        (b"pid=,", OLD._replace(pids=())),
        (b"pid=3,1,3", OLD._replace(pids=(3, 1, 3))),
        (b"pid=0,4194304", OLD._replace(pids=(0, 4194304))),
        (b"tgid=9,8", OLD._replace(tgids=(9, 8))),
        (b"tgid= pid=", OLD._replace(pids=(), tgids=())),
        (b"\t mode=stack\nnid=2  pid=4\ttgid=5 ", Filter(0, frozenset({2}), (4,), (5,))),
        (b"pid=" + b",".join(b"%d" % pid for pid in range(16)), OLD._replace(pids=(*range(16),))),
    ],
)
def test_taken(text: bytes, expected: Filter) -> None:
    """Named filters change, and the others stay."""
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(
            (text, errno.EINVAL)
            for text in (
                *(b"mode", b"mode=", b"mode=Stack", b"mode=stack\0x", b"mode=stack,handle"),
                *(b"MODE=stack", b"=stack", b"=", b"other=1", b"mode =stack", b"mode= stack"),
                *(b"nid=", b"nid=,", b"nid=4", b"nid=0-4", b"nid=3-1", b"nid=-1", b"nid=1-"),
                *(b"nid=x", b"nid=1.5", b"nid=0x1", b"nid=+1", b"nid=all", b"nid=1--2"),
                *(b"pid=x", b"pid=-1", b"pid=+1", b"pid=0x1", b"pid=4194305", b"pid=1;2"),
                *(b"pid=1-3", b"tgid=9999999999", b"tgid=1,x", b"tgid=1\r", b"pid==1"),
                *(b"pid=1" + b" " * 4095, "pid=\u0661".encode(), b"\xff", b"pid=\xb2"),
                b"pid=1 \0 tgid=2",
            )
        ),
        (b"nid=1024", errno.ERANGE),
        (b"nid=0-1024", errno.ERANGE),
        (b"nid=0," + b"9" * 4000, errno.ERANGE),
        (b"pid=" + b",".join([b"1"] * 17), errno.E2BIG),
        (b"tgid=" + b",".join([b"1"] * 17), errno.E2BIG),
    ],
)
def test_refused(text: bytes, number: int) -> None:
    """If any part is refused, no part takes effect."""
    for whole in (text, b"mode=stack " + text):
        with pytest.raises(ViewError) as caught:
            parse(whole)
        assert caught.value.errno in (number, errno.EINVAL if len(whole) > 4095 else number)


def test_length() -> None:
    """4095 bytes are accepted, and one more is not."""
    text = b"mode=stack".ljust(4095)
    assert parse(text).mode == 0
    with pytest.raises(ViewError):
        parse(text + b" ")


def test_no_nodes() -> None:
    """If no node has memory, none can be named."""
    with pytest.raises(ViewError):
        parse_filter(b"nid=0", Filter(), ())
    assert parse_filter(b"pid=1", Filter(), ()) == Filter(pids=(1,))


@given(
    st.sampled_from(MODES),
    st.frozensets(st.sampled_from(NODES), min_size=1),
    st.lists(st.integers(0, 1 << 22), max_size=16),
    st.lists(st.integers(0, 1 << 22), max_size=16),
    st.permutations(range(4)),
)
def test_written_and_parsed(
    mode: str, nids: frozenset[int], pids: list[int], tgids: list[int], order: list[int]
) -> None:
    """A command in any order gives the filters it names, whatever they were before."""
    words = [
        f"mode={mode}",
        f"nid={','.join(map(str, nids))}",
        f"pid={','.join(map(str, pids))}",
        f"tgid={','.join(map(str, tgids))}",
    ]
    words = [words[i] for i in order]
    expected = Filter(MODES.index(mode), nids, tuple(pids), tuple(tgids))
    assert parse(" ".join(words).encode()) == expected
    assert parse("\n".join(words).encode(), Filter()) == expected


@given(st.binary(max_size=60), st.sampled_from((b"", b"mode=", b"nid=", b"pid=", b"tgid=")))
def test_any_bytes(text: bytes, name: bytes) -> None:
    """Any bytes give filters or a ViewError."""
    try:
        found = parse(name + text)
    except ViewError as error:
        assert error.errno in {errno.EINVAL, errno.E2BIG, errno.ERANGE}  # noqa: PT017 - or nothing
    else:
        assert found.mode in range(len(MODES))
        assert found.nids is not None
        assert found.nids <= set(NODES)
