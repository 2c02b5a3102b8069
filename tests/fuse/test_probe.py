"""
The option kernel_abi against a real kernel, line by line: tests/data/probe.txt.

The recording has a line for every read(), lseek(), pread(), stat(), open() and so on that a
program tried on the page_owner of a Linux 6.12. Here each call is repeated on a mount that serves
records of the recorded lengths at the recorded PFNs, and must give the same line. What FUSE cannot
do is in the two tables below, with the reason and the result; nothing else differs.
"""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING, NamedTuple

import pytest
from data import KERNEL
from probe_machine import recorded_machine
from probe_replay import Replay
from serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.require("fuse", "root", "shm"), pytest.mark.slow]

RECORDING = (KERNEL / "probe.txt").read_text()
LINES = RECORDING.split("\n")[:-1]
UID = 1000  # the ordinary user of the recording

# Parts of a line that are not compared, and the reasons.
FIELDS = {
    "f_pos": (
        r"f_pos (?:now )?\w+(?: -> \w+)?",
        (
            "For a FUSE file, the kernel adds the bytes returned to the position; page_owner's is "
            "a PFN. A record shows where its read began; Replay checks that bytes are added."
        ),
    ),
    "st_ino, st_mtime": (
        r"ino \d+ mtime \d+",
        "Numbers of that boot. A test below covers changes of mtime.",
    ),
}

GENERIC_LSEEK = "lseek() of a FUSE file is the kernel's own; libfuse 2 has no handler for it."
NOT_THERE = "The previous seek failed, so the position did not change and can be read from."
ONE_REQUEST = (
    "page_owner has no read_iter(), so the kernel reads into one iovec after the other; FUSE "
    "makes one request for the sum."
)
SPLICE = (
    "debugfs can't splice. FUSE can, through the page cache, which ends at st_size, 0, so "
    "sendfile() copies nothing. Before Linux 6.5, FUSE sent this to its server, too."
)
ROOT = "The root of debugfs has 12 more directories than the root of this mount."
NO_READ = "PFN 0xffffffffffffffff  nrec=0 ends_nlnl=0 first_byte=-"


class Deviation(NamedTuple):
    """A line that differs here."""

    here: str
    reason: str
    or_here: str = ""
    """The line on another kernel under FUSE."""


# By recorded line; the fields above are masked in the replacement.
DEVIATIONS = {
    "  stat /sys/kernel/debug mode 40700 uid 0 gid 0 size 0 blksize 4096 blocks 0 nlink 14 ino 1 "
    "mtime 1795437364": Deviation(
        "  stat /sys/kernel/debug mode 40700 uid 0 gid 0 size 0 blksize 4096 blocks 0 nlink 2 …",
        ROOT,
    ),
    "Charged to memcg /": Deviation(
        " xxxxxxxxx+0x0/0x0", "A pool has no memcg: a frame fills the record to its length."
    ),
    f"  read(0) -> -1 ENOMEM  f_pos 0x19e2 -> 0x19e2  {NO_READ}": Deviation(
        f"  read(0) -> 0  …  {NO_READ}",
        "The kernel answers a read of no bytes itself, without asking FUSE.",
    ),
    "  lseek(0x100,SEEK_CUR) -> 0x2109 ": Deviation(
        "  lseek(0x100,SEEK_CUR) -> 0x23f3 ", FIELDS["f_pos"][1]
    ),
    "  lseek(0,SEEK_END) -> 0xffffffffffffffff EINVAL": Deviation(
        "  lseek(0,SEEK_END) -> 0 ", GENERIC_LSEEK
    ),
    "  lseek(0,SEEK_DATA) -> 0xffffffffffffffff EINVAL": Deviation(
        "  lseek(0,SEEK_DATA) -> 0xffffffffffffffff ENXIO", GENERIC_LSEEK
    ),
    "  lseek(0,SEEK_HOLE) -> 0xffffffffffffffff EINVAL": Deviation(
        "  lseek(0,SEEK_HOLE) -> 0xffffffffffffffff ENXIO", GENERIC_LSEEK
    ),
    # The seek to -5 worked, but the C library took the result for an error.
    "  lseek(0xfffffffffffffffb,SEEK_SET) -> 0xffffffffffffffff EIO": Deviation(
        "  lseek(0xfffffffffffffffb,SEEK_SET) -> 0xffffffffffffffff EINVAL", GENERIC_LSEEK
    ),
    f"  read(4096) -> -1 EINVAL  f_pos 0xffffffffffffffff -> 0xffffffffffffffff  {NO_READ}": (
        Deviation("  read(4096) -> 461  …  PFN 0x19db  nrec=1 ends_nlnl=1 first_byte=P", NOT_THERE)
    ),
    "  lseek(0xfffffffffffff000,SEEK_SET) -> 0xfffffffffffff000 0": Deviation(
        "  lseek(0xfffffffffffff000,SEEK_SET) -> 0xffffffffffffffff EINVAL", GENERIC_LSEEK
    ),
    f"  read(4096) -> -1 EINVAL  f_pos 0xfffffffffffff000 -> 0xfffffffffffff000  {NO_READ}": (
        Deviation("  read(4096) -> 469  …  PFN 0x19dc  nrec=1 ends_nlnl=1 first_byte=P", NOT_THERE)
    ),
    "  readv(exact len? 482,4096) -> -1 ENOMEM f_pos 0x19e2": Deviation(
        "  readv(exact len? 482,4096) -> 482 …", ONE_REQUEST
    ),
    "  readv(10,4096) -> -1 ENOMEM f_pos 0x19e2": Deviation(
        "  readv(10,4096) -> 482 …", ONE_REQUEST
    ),
    "  sendfile to tmpfs -> -1 EINVAL": Deviation(
        "  sendfile to tmpfs -> 0 ", SPLICE, "  sendfile to tmpfs -> 482 "
    ),
    "  splice to pipe -> -1 EINVAL": Deviation(
        "  splice to pipe -> 0 ", SPLICE, "  splice to pipe -> 482 "
    ),
}


def masked(line: str) -> str:
    """Remove the parts of a line that are not compared."""
    for pattern, _ in FIELDS.values():
        line = re.sub(pattern, "…", line)
    return line


class Replayed(NamedTuple):
    """The result of the whole recording."""

    here: list[str]
    """For each recorded line, the line here."""
    mtimes: list[tuple[int, int]]


@pytest.fixture(scope="module")
def dump() -> bytes:
    """Return the text of a page_owner that fits the recorded lines."""
    return recorded_machine(RECORDING)


@pytest.fixture(scope="module")
def mount(dump: bytes) -> Iterator[Path]:
    """Mount it, as closed to others as debugfs is."""
    with serving(dump) as path:
        path.chmod(0o700)
        yield path


@pytest.fixture(scope="module")
def replayed(mount: Path) -> Replayed:
    """Run every line in order."""
    replay = Replay(mount, UID)
    try:
        return Replayed([replay.line(line) for line in LINES], replay.mtimes)
    finally:
        replay.close()


def test_text(mount: Path, dump: bytes) -> None:
    """The mount serves the generated records, byte for byte."""
    with (mount / "page_owner").open("rb", buffering=0) as file:
        assert b"".join(iter(lambda: file.read(4096), b"")) == dump


def test_lines(replayed: Replayed) -> None:
    """Every line equals the recorded one, or what the table says."""
    wrong = []
    for number, (line, here) in enumerate(zip(LINES, replayed.here, strict=True), 1):
        entry = DEVIATIONS.get(line)
        expected = (entry.here, entry.or_here) if entry else (masked(line),)
        if masked(here) not in expected:
            wrong.append(f"{number}: recorded {line!r}, here {here!r}, expected {expected}")
    assert not wrong, "\n".join(wrong)


def test_every_line_counts(replayed: Replayed, capsys: pytest.CaptureFixture[str]) -> None:
    """Each line is compared or is in the table, and each entry of the table deviates."""
    pairs = list(zip(LINES, replayed.here, strict=True))
    deviating = [line for line, _ in pairs if line in DEVIATIONS]
    rest = [(line, here) for line, here in pairs if line not in DEVIATIONS]
    # Not calls: headings, and the lines around the text of a record.
    plain = [line for line, _ in rest if line.startswith("##") or line == "-----"]
    literal = [line for line, here in rest if line == here and line not in plain]
    by_field = [line for line, here in rest if line != here and masked(line) == masked(here)]
    compared = len(literal) + len(by_field)
    with capsys.disabled():
        print(
            f"\nprobe.txt: {len(LINES)} lines: {len(plain)} headings, {compared} compared "
            f"({len(by_field)} of them without {' or '.join(FIELDS)}), {len(deviating)} deviating"
        )
    assert len(plain) + compared + len(deviating) == len(LINES)
    assert set(deviating) == DEVIATIONS.keys(), "an entry without a line"
    assert not any(masked(line) in entry for line, entry in DEVIATIONS.items())
    assert all(entry.reason for entry in DEVIATIONS.values())


def test_mtime(replayed: Replayed) -> None:
    """The mtime changes where the kernel's did: after a truncation, but not after chmod."""
    assert len(replayed.mtimes) > 2
    first_recorded, first_here = replayed.mtimes[0]
    recorded = [recorded > first_recorded for recorded, _ in replayed.mtimes]
    assert [here > first_here for _, here in replayed.mtimes] == recorded
    assert True in recorded


@pytest.mark.parametrize("offset", [-5, -4096])
def test_negative_position(mount: Path, offset: int) -> None:
    """pread() covers the reads that the table excludes: EINVAL at a negative position."""
    fd = os.open(mount / "page_owner", os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="Invalid argument") as caught:
            os.pread(fd, 4096, offset)
        assert caught.value.errno == errno.EINVAL
    finally:
        os.close(fd)


def test_open_files_are_apart(mount: Path, dump: bytes) -> None:
    """Reads of one open file do not move the position of another."""
    records = [record + b"\n\n" for record in dump.split(b"\n\n")[:3]]
    fds = [os.open(mount / "page_owner", os.O_RDONLY) for _ in range(2)]
    try:
        assert [os.read(fds[0], 4096) for _ in range(2)] == records[:2]
        assert os.read(fds[1], 4096) == records[0]
        assert os.read(fds[0], 4096) == records[2]
    finally:
        for fd in fds:
            os.close(fd)
