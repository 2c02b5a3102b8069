"""Endless or hostile input takes bounded memory, and reading it ends."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import threading
from typing import IO, TYPE_CHECKING

import pytest
from dumps import V6_12, make_dump

if TYPE_CHECKING:
    from pathlib import Path

MEMORY_MB = 120
STREAM_MB = 200
TIMEOUT = 60.0  # seconds; it takes one, so after this it hangs

CHILD = """
import sys
from pageownerfs.page_owner_sort.command import main
code = main(["-", sys.argv[1]])
with open("/proc/self/status") as file:
    print("peak", next(line.split()[1] for line in file if line.startswith("VmHWM")))
raise SystemExit(code)
"""
HEAD = make_dump(random.Random("head"), nr_records=1, eras=[V6_12]).records[0]
STREAMS = {
    "random": (b"", random.Random("stream").randbytes(1 << 20)),
    "records-then-random": (HEAD.whole * 1000, random.Random("stream").randbytes(1 << 20)),
    "header-then-random": (HEAD.header(), random.Random("stream").randbytes(1 << 20)),
    "header-without-end": (HEAD.header()[:-1], b"x" * (1 << 20)),
    "pfn-line-without-end": (HEAD.header() + HEAD.pfn_line[:-1], b"x" * (1 << 20)),
    "frame-without-end": (HEAD.header() + HEAD.pfn_line + b" f+0x", b"1" * (1 << 20)),
    "empty-lines": (HEAD.whole, b"\n" * (1 << 20)),
    "record-starts": (b"", b"Page allocated via order " * (1 << 15)),
}


@pytest.mark.parametrize("stream", STREAMS)
def test_memory_is_bounded(stream: str, tmp_path: Path) -> None:
    """An endless stream of garbage takes no more memory than a few buffers, and little time.

    The child reads its own peak from the kernel: the parent would see its own peak if that is
    larger.
    """
    head, block = STREAMS[stream]
    line = [sys.executable, "-c", CHILD, str(tmp_path / "out")]
    with subprocess.Popen(line, stdin=-1, stdout=-1, stderr=-1) as child:
        assert child.stdin is not None

        def feed(file: IO[bytes] = child.stdin) -> None:
            with file:
                file.write(head)
                for _ in range(STREAM_MB * (1 << 20) // len(block)):
                    file.write(block)

        child.stdin = None  # communicate() must not close it
        writer = threading.Thread(target=feed)
        writer.start()
        stdout, stderr = child.communicate(timeout=TIMEOUT)
        writer.join()
    assert b"Traceback" not in stderr
    assert child.returncode == (not head.endswith(b"\n\n")), stderr
    peak_kb = int(re.findall(rb"^peak ([0-9]+)$", stdout, re.MULTILINE)[0])
    assert peak_kb < MEMORY_MB << 10, f"{peak_kb >> 10} MB"


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(b"x\n\n", id="lines-and-empty-lines"),
        pytest.param(b"x\n", id="lines"),
        pytest.param(b"Page allocated via order \n\n", id="starts-and-empty-lines"),
        pytest.param(HEAD.header() + b"\0\n\n", id="headers-with-damage"),
        pytest.param(HEAD.header() + b" [+0x1/0x\n", id="headers-with-bad-frames"),
        pytest.param(HEAD.whole.replace(b"\n", b"\r\n"), id="records-with-CR-LF"),
    ],
)
def test_time_is_linear(block: bytes, tmp_path: Path) -> None:
    """8 MB with any damage are read in linear time; searching the rest again would not end."""
    path = tmp_path / "dump"
    path.write_bytes(HEAD.whole + block * ((8 << 20) // len(block)) + b"\0")
    line = [sys.executable, "-m", "pageownerfs.page_owner_sort", str(path), str(tmp_path / "out")]
    done = subprocess.run(line, capture_output=True, check=False, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    assert b"loaded " in done.stdout
