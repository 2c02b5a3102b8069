"""Text of frames and stacks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageownerfs.mm.stack_depot import (
    Frame,
    clean_name,
    format_frame,
    format_source_lines,
    format_stack,
)

if TYPE_CHECKING:
    from pageownerfs.page_owner_sort import Record

FILL = Frame("Buffer.fill", "app.io", 0x1A, 0x30, "/srv/my app/io.py", 7)
MAIN = Frame("main", "", 0, 2, "", 0)
KERNEL_FRAME = re.compile(rb" ([^\s]+)\+0x([0-9a-f]+)/0x([0-9a-f]+)(?: \[([^\s]+)\])?\n")


@pytest.mark.parametrize(
    ("frame", "line"),
    [
        pytest.param(FILL, b" Buffer.fill+0x1a/0x30 [app.io]\n", id="module"),
        pytest.param(MAIN, b" main+0x0/0x2\n", id="no module, offset 0"),
        pytest.param(
            FILL._replace(offset=0xABCDE),
            b" Buffer.fill+0xabcde/0x30 [app.io]\n",
            id="lower-case hex",
        ),
        pytest.param(
            FILL._replace(name=""), b" 0x1a\n", id="no name, as an address without symbol"
        ),
        pytest.param(
            FILL._replace(name="f.<locals>.<lambda>"),
            b" f.<locals>.<lambda>+0x1a/0x30 [app.io]\n",
            id="qualified name",
        ),
    ],
)
def test_format_frame(frame: Frame, line: bytes) -> None:
    """A frame is printed as %pS prints a module's function, after one blank."""
    assert format_frame(frame) == line


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        pytest.param("two words", b"two_words", id="blank"),
        pytest.param("a\nPFN 0x1\n\nb\r\t\x0b\x0c", b"a_PFN_0x1__b____", id="newlines and tabs"),
        pytest.param("\x00\x1b[31m\x7f\x85", b"__[31m__", id="control characters"),
        pytest.param("a\u00a0b\u2028c\u2029d\u3000e", b"a_b_c_d_e", id="blanks of other scripts"),
        pytest.param("\u202eevil\u200b", b"_evil_", id="direction marks"),
        pytest.param(
            "\u00e9t\u00e9_\u6f22",
            "\u00e9t\u00e9_\u6f22".encode(),
            id="letters of other scripts stay",
        ),
        pytest.param("a\udcffb", rb"a\udcffb", id="what is no text is shown by number"),
        pytest.param("x" * 600, b"x" * 511, id="511 bytes at most"),
        pytest.param("x" * 511, b"x" * 511, id="511 bytes fit"),
        pytest.param(
            "x" + "\u6f22" * 200, ("x" + "\u6f22" * 170).encode(), id="cut between characters"
        ),
    ],
)
def test_clean_name(name: str, cleaned: bytes) -> None:
    """A name fits into a line: no blanks, no control characters, at most 511 bytes of UTF-8."""
    assert clean_name(name) == cleaned


def test_module_is_cleaned() -> None:
    """A module's name cannot break the line either."""
    assert format_frame(MAIN._replace(module="a\nb c")) == b" main+0x0/0x2 [a_b_c]\n"


def test_format_stack() -> None:
    """A stack is its frames, innermost first; an empty one has no text."""
    assert format_stack([FILL, MAIN]) == b" Buffer.fill+0x1a/0x30 [app.io]\n main+0x0/0x2\n"
    assert format_stack([]) == b""


@pytest.mark.parametrize(
    ("frame", "line"),
    [
        pytest.param(
            FILL, b" Buffer.fill (/srv/my app/io.py:7) [app.io]\n", id="blank in a path stays"
        ),
        pytest.param(
            FILL._replace(module=""), b" Buffer.fill (/srv/my app/io.py:7)\n", id="no module"
        ),
        pytest.param(
            FILL._replace(lineno=0),
            b" Buffer.fill (/srv/my app/io.py) [app.io]\n",
            id="line not known",
        ),
        pytest.param(
            FILL._replace(filename="a\n\udcff.py"),
            b" Buffer.fill (a_\\udcff.py:7) [app.io]\n",
            id="odd path",
        ),
        pytest.param(FILL._replace(name=""), b" ? (/srv/my app/io.py:7) [app.io]\n", id="no name"),
        pytest.param(MAIN, b" main+0x0/0x2\n", id="no file"),
    ],
)
def test_format_source_lines(frame: Frame, line: bytes) -> None:
    """Each frame names its file and line, or falls back to its offset."""
    assert format_source_lines([frame, frame]) == line * 2


@given(
    st.builds(
        Frame,
        name=st.text(st.characters(), min_size=1),
        module=st.text(st.characters()),
        offset=st.integers(0, 2**32 - 1),
        size=st.integers(0, 2**32 - 1),
        filename=st.text(st.characters()),
        lineno=st.integers(0, 2**31 - 1),
    )
)
def test_any_frame_is_one_line_of_the_kernel(frame: Frame) -> None:
    """Whatever a function is called, its line parses as a frame of the kernel."""
    match = KERNEL_FRAME.fullmatch(format_frame(frame))
    assert match is not None
    assert (int(match[2], 16), int(match[3], 16)) == (frame.offset, frame.size)
    assert bool(match[4]) == bool(frame.module)
    assert format_source_lines([frame]).count(b"\n") == 1


def test_frames_of_a_kernel(oracle_sample: list[Record]) -> None:
    """The frames of a kernel are printed unchanged after parsing."""
    stacks = {record.stack for record in oracle_sample}
    assert len(stacks) > 20
    for stack in stacks:
        frames = [
            Frame(name.decode(), module.decode(), int(offset, 16), int(size, 16), "", 0)
            for name, offset, size, module in KERNEL_FRAME.findall(stack)
        ]
        assert format_stack(frames) == stack
