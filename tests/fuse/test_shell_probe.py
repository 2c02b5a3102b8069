"""
Shell tools with the option kernel_abi, compared with their results on a real page_owner.

tests/data/shell_probe.txt was recorded with busybox. Busybox must do the same here, byte for byte,
apart from the tables; the system's own tools must do what they do on a file of that kind.
"""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest
from data import KERNEL
from probe_machine import Total, fill
from recorded import made_record, padded
from serving import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.require("fuse", "root", "shm"), pytest.mark.slow]

DEBUGFS = "/sys/kernel/debug"
COPY = "/tmp/cp.txt"
TIMEOUT = 30.0
# A pool has no memcg; a frame of the same length takes its place.
MEMCG, FRAME = "Charged to memcg /\n", " xxxxxxxxx+0x0/0x0\n"
WC, CAT_WC = f"wc {DEBUGFS}/page_owner", f"cat {DEBUGFS}/page_owner | wc"
CP_WC = f"cp {DEBUGFS}/page_owner {COPY}; wc {COPY}; rm -f {COPY}"
HEAD = f"head -c 100 {DEBUGFS}/page_owner"
ECHO = f"echo 1 > {DEBUGFS}/page_owner"
DD_SMALL = f"dd if={DEBUGFS}/page_owner bs=64 count=3 of=/dev/null"

# The machine went on allocating between the commands, so these counts were three different ones.
# Here the whole text is counted each time.
LIVE_COUNTS = (WC, CAT_WC, CP_WC)
# busybox copies with sendfile(). debugfs refuses that (EINVAL), and busybox continues with read().
# FUSE uses the page cache, which ends at st_size, 0; Linux before 6.5 asked the server.
COPIES_NOTHING = (CAT_WC, CP_WC)
# Messages of GNU's tools and Debian's shell where they differ: exit code and output.
SYSTEM_TOOLS = {
    DD_SMALL: (1, r"dd: .*Cannot allocate memory\n0\+0 records in\n0\+0 records out\n0 bytes.*\n"),
    # GNU's head reads only the 100 bytes that it needs; busybox fills a buffer.
    HEAD: (1, r"head: .*Cannot allocate memory\n"),
    ECHO: (1, r".*(?:I/O error|Invalid argument)\n"),
}


class Command(NamedTuple):
    """A command of the recording."""

    line: str
    output: str
    """Its output, including errors."""
    code: int


COMMANDS = [
    Command(line, output, int(code))
    for line, output, code in re.findall(
        r"^# ([^\n]*)\n(.*?)rc=(\d+)$",
        (KERNEL / "shell_probe.txt").read_text(),
        re.MULTILINE | re.DOTALL,
    )
]
BY_LINE = {command.line: command for command in COMMANDS}
each_command = pytest.mark.parametrize("command", COMMANDS, ids=[c.line for c in COMMANDS])


def recorded_machine() -> bytes:
    """Make a page_owner with the recorded first and last records and number of records."""
    first = BY_LINE[f"dd if={DEBUGFS}/page_owner bs=4096 count=3"].output
    tail = BY_LINE[f"tail -n 3 {DEBUGFS}/page_owner"].output
    last_pfn = 0x3FFD3
    bare = made_record(last_pfn, 300).split(b" x")[0]
    texts = {last_pfn: bare + tail.encode()}
    for text, pfn in re.findall(r"(Page .*?\nPFN (0x\w+) .*?\n\n)", first, re.DOTALL):
        texts[int(pfn, 16)] = text.encode()
    lengths = {pfn: len(text) for pfn, text in texts.items()}
    nr_records = int(BY_LINE[f"grep -c PFN {DEBUGFS}/page_owner"].output)
    nr_bytes = int(BY_LINE[WC].output.split()[2])
    fill(lengths, Total(nr_records, nr_bytes, 863, last_pfn))
    return b"".join(
        padded(texts[pfn], length) if pfn in texts else made_record(pfn, length)
        for pfn, length in sorted(lengths.items())
    )


@pytest.fixture(scope="module")
def dump() -> bytes:
    """Return the text of the page_owner."""
    return recorded_machine()


@pytest.fixture(scope="module")
def mount(dump: bytes) -> Iterator[Path]:
    """Mount it."""
    with serving(dump) as path:
        yield path


@pytest.fixture
def run(mount: Path, tmp_path: Path) -> Callable[..., tuple[str, int]]:
    """Run a recorded command on our file, with the tools of a folder or the system's."""

    def run_command(line: str, tools: Path | None = None) -> tuple[str, int]:
        copy = str(tmp_path / "cp.txt")
        here = line.replace(DEBUGFS, str(mount)).replace(COPY, copy)
        path = os.environ["PATH"] if tools is None else str(tools)
        done = subprocess.run(
            ["sh" if tools is None else tools / "sh", "-c", here],
            env={"PATH": path, "LC_ALL": "C"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT,
            text=True,
            check=False,
        )
        output = done.stdout.replace(str(mount), DEBUGFS).replace(copy, COPY)
        return output, done.returncode

    return run_command


@pytest.fixture(scope="module")
def busybox(require: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with busybox under the names of its tools."""
    require("busybox")
    path = tmp_path_factory.mktemp("busybox")
    subprocess.run(["busybox", "--install", "-s", path], check=True)
    return path


def counts(dump: bytes) -> list[int]:
    """Count lines, words and bytes like wc."""
    return [dump.count(b"\n"), len(dump.split()), len(dump)]


@each_command
def test_busybox(
    command: Command, run: Callable[..., tuple[str, int]], busybox: Path, dump: bytes
) -> None:
    """The recorded tools print what was recorded."""
    output, code = run(command.line, busybox)
    assert code == command.code
    if command.line in LIVE_COUNTS:
        name = "".join(command.output.partition(" /")[1:]) or "\n"
        allowed = [counts(dump)] + [[0, 0, 0]] * (command.line in COPIES_NOTHING)
        assert output in ["{:9} {:9} {:9}".format(*numbers) + name for numbers in allowed]
    else:
        assert output == command.output.replace(MEMCG, FRAME)


@each_command
def test_system_tools(command: Command, run: Callable[..., tuple[str, int]], dump: bytes) -> None:
    """The system's tools do the same, or differ in a known way."""
    output, code = run(command.line)
    if command.line in SYSTEM_TOOLS:
        expected_code, pattern = SYSTEM_TOOLS[command.line]
        assert code == expected_code
        assert re.fullmatch(pattern, output), output
    elif command.line in LIVE_COUNTS:
        assert code == command.code
        assert [int(number) for number in output.split()[:3]] == counts(dump)
    else:
        # GNU's dd adds a line about the bytes copied, and warns about short reads and st_size 0.
        output = re.sub(r"^(?:dd: .*|\d+ bytes .*copied.*)\n", "", output, flags=re.MULTILINE)
        assert (output, code) == (command.output.replace(MEMCG, FRAME), command.code)


def test_tables() -> None:
    """The tables name only recorded commands, and the recording consists of commands only."""
    text = (KERNEL / "shell_probe.txt").read_text()
    assert {*LIVE_COUNTS, *COPIES_NOTHING, *SYSTEM_TOOLS} <= BY_LINE.keys()
    assert "".join(f"# {c.line}\n{c.output}rc={c.code}\n" for c in COMMANDS) == text
