"""scripts/dev/extract-vocabulary: its sample, and that it makes the same sample again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from data import DATA, PAGE_OWNER, SAMPLE

if TYPE_CHECKING:
    from pageownerfs.page_owner_sort import Record

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = ROOT / "scripts" / "dev" / "extract-vocabulary"
FILES = ("gfp_masks.txt", "page_flags.txt", "oracle_sample.txt")


def run(*arguments: Path) -> subprocess.CompletedProcess[str]:
    """Run the script."""
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_sample_has_every_kind(oracle_sample: list[Record]) -> None:
    """The sample has early, slab, memcg, migrated, thread, order 0 to 9 and hostile records."""
    orders = {record.order for record in oracle_sample}
    extra = b"".join(record.notes for record in oracle_sample)
    comms = {record.comm for record in oracle_sample}
    stacks = b"".join(record.stack for record in oracle_sample)
    assert orders == {0, 1, 2, 3, 4, 5, 6, 9}
    assert b"register_early_stack" in stacks
    assert any(record.pid != record.tgid for record in oracle_sample)
    for line in (b"Slab cache", b"compaction", b"to memcg /", b"via objcg", b"to offline memcg"):
        assert line in extra
    assert {b"", b"123", b"x\ny\tz", b"my app (1)", b"a) b), ts 5 ns", b"sixteen_chars_x"} <= comms
    assert b"\xc3\xa9\xff\x01\xe6\xbc\xa2\xe5\xad\x97" in comms


def test_files_are_those_of_the_dump(tmp_path: Path) -> None:
    """From the complete dump, the script makes the files of tests/data, byte for byte."""
    done = run(PAGE_OWNER, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (DATA / name).read_bytes()


def test_sample_of_the_sample(tmp_path: Path) -> None:
    """The sample has one record of each of its kinds, so it is its own sample."""
    assert run(SAMPLE, tmp_path).returncode == 0
    sample = SAMPLE.read_bytes()
    assert (tmp_path / "oracle_sample.txt").read_bytes() == sample
    assert (tmp_path / "page_flags.txt").read_bytes() == (DATA / "page_flags.txt").read_bytes()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        pytest.param(b"no dump\n", "byte 0", id="something else"),
        pytest.param(b"Page allocated via order 0, mask 0x0(), pid", "byte 0", id="cut"),
    ],
)
def test_refuses_what_is_no_dump(tmp_path: Path, text: bytes, place: str) -> None:
    """Text that is not a record is refused with its place, and nothing is written."""
    dump = tmp_path / "dump"
    dump.write_bytes(text)
    done = run(dump, tmp_path / "out")
    assert done.returncode == 1
    assert place in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_usage() -> None:
    """Without a dump it prints its usage."""
    done = run()
    assert done.returncode == 2
    assert "usage: scripts/dev/extract-vocabulary DUMP" in done.stderr
