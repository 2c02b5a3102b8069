"""A saved page_owner as a mount: identical text, whatever kernel it comes from."""

from __future__ import annotations

import gzip
import importlib
import importlib.util
import lzma
import os
import random
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from data import PAGE_OWNER, SAMPLE, kernel_file
from dumps import ERAS, HOSTILE_COMMS, V6_12, Era, make_dump
from mounts import (
    MODULE,
    TIMEOUT,
    is_mounted,
    mounted,
    process_lives,
    run_mount,
    status_of,
    wait_until,
)
from views import parse_shown, read_stats, read_unbuffered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.require("fuse")

TEXT = SAMPLE.read_bytes()
ORACLE_RECORDS = 92_332
SORT_OPTIONS: tuple[list[str], ...] = (
    *([], ["-m"], ["-a"], ["-p"], ["-P"], ["-n"], ["-s"], ["--cull=st"]),
    *(["--cull=pid,name", "-m"], ["--tgid=1"], ["--cull=ator"]),
)


def zstd_compress(text: bytes) -> bytes:
    """Compress, if a zstd module is available."""
    for name in ("compression", "backports"):
        if importlib.util.find_spec(name) and importlib.util.find_spec(f"{name}.zstd"):
            packed: bytes = importlib.import_module(f"{name}.zstd").compress(text)
            return packed
    pytest.skip("needs zstd: backports.zstd is not installed")


def packed(kind: str, text: bytes) -> bytes:
    """Compress a text, or leave it as it is."""
    match kind:
        case "gz":
            return gzip.compress(text)
        case "xz":
            return lzma.compress(text)
        case "zst":
            return zstd_compress(text)
    return text


@pytest.fixture(scope="module")
def sample() -> Iterator[Path]:
    """Mount the sample from a real kernel."""
    with mounted(f"dump:{SAMPLE}") as path:
        yield path


@pytest.mark.parametrize("kind", ["txt", "gz", "xz", "zst"])
def test_packed(tmp_path: Path, kind: str) -> None:
    """The text comes back unchanged, whatever its compression and its name."""
    (tmp_path / "saved").write_bytes(packed(kind, TEXT))
    with mounted("dump:saved", cwd=tmp_path) as path:
        assert (path / "page_owner").read_bytes() == TEXT
        assert (path / "page_owner").stat().st_size == len(TEXT)
        stats = read_stats(path)
        assert stats["records"] == len(parse_shown(TEXT))
        assert stats["damaged_records"] == 0
        status = status_of(path)
        assert (status["source"], status["path"]) == ("dump", str(tmp_path / "saved"))


@pytest.mark.parametrize("kind", ["txt", "xz"])
def test_standard_input(tmp_path: Path, kind: str) -> None:
    """``dump:-`` reads a pipe or a file in the background."""
    saved = tmp_path / "saved"
    saved.write_bytes(packed(kind, TEXT))
    with (
        subprocess.Popen(["cat", saved], stdout=subprocess.PIPE) as cat,
        mounted("dump:-", stdin=cat.stdout or 0) as path,
    ):
        assert (path / "page_owner").read_bytes() == TEXT
    with saved.open("rb") as file, mounted("dump:-", stdin=file) as path:
        assert (path / "page_owner").read_bytes() == TEXT


@pytest.mark.parametrize("source", ["file", "pipe"])
def test_foreground(tmp_path: Path, source: str) -> None:
    """With -f, the process that was started serves the mount and ends with it."""
    path = tmp_path / "mnt"
    path.mkdir()
    line: list[str | Path] = [
        *MODULE,
        f"dump:{SAMPLE}" if source == "file" else "dump:-",
        path,
        "-f",
    ]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        try:
            assert child.stdin is not None
            if source == "pipe":
                child.stdin.write(TEXT)
            child.stdin.close()
            child.stdin = None
            assert wait_until(lambda: is_mounted(path) or child.poll() is not None)
            assert (path / "page_owner").read_bytes() == TEXT
            assert status_of(path)["pid"] == child.pid
            subprocess.run([*MODULE, "umount", path], check=True)
            _, stderr = child.communicate(timeout=TIMEOUT)
            assert child.returncode == 0
            assert b"Traceback" not in stderr
        finally:
            child.kill()
            if is_mounted(path):
                subprocess.run(["fusermount", "-u", "-z", path], check=False)


@pytest.mark.parametrize("era", ERAS, ids=[era.name for era in ERAS])
def test_every_era(tmp_path: Path, era: Era) -> None:
    """Dumps of kernels of any age, with misleading names, come back unchanged."""
    dump = make_dump(random.Random(era.name), eras=[era], hostile=True, nr_records=400)
    (tmp_path / "saved").write_bytes(dump.data)
    with mounted(f"dump:{tmp_path / 'saved'}") as path:
        # Records without a PFN line are incomplete: no kernel prints them, but the generator does.
        kept = [record.whole for record in dump.records if record.has_pfn]
        text = b"".join(kept)
        assert (path / "page_owner").read_bytes() == text
        assert read_unbuffered(path / "page_owner", 7777) == text
        stats = read_stats(path)
        assert (stats["records"], stats["damaged_records"]) == (len(kept), 400 - len(kept))
        assert stats["text_bytes"] == len(dump.data)


@pytest.mark.parametrize("era", ERAS, ids=[era.name for era in ERAS])
def test_every_file_of_every_era(tmp_path: Path, era: Era) -> None:
    """Every listed file can be read, whatever a kernel's records lack."""
    dump = make_dump(random.Random(3), eras=[era], nr_records=60)
    (tmp_path / "saved").write_bytes(dump.data)
    with mounted(f"dump:{tmp_path / 'saved'}") as path:
        line = f"find {path} -type f -exec cat {{}} +"
        done = subprocess.run(["sh", "-c", line], capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        assert next(r for r in dump.records if r.has_pfn).stacktrace in done.stdout


@pytest.mark.parametrize("era", ERAS, ids=[era.name for era in ERAS])
def test_every_era_in_every_format(tmp_path: Path, era: Era) -> None:
    """Any dump can be shown in another kernel's format; missing values become 0."""
    dump = make_dump(random.Random(era.name), eras=[era], nr_records=60)
    kept = [record for record in dump.records if record.has_pfn]
    (tmp_path / "saved").write_bytes(dump.data)
    for output_format in ("6.1", "6.12"):
        with mounted(f"dump:{tmp_path / 'saved'}", f"format={output_format}") as path:
            text = (path / "page_owner").read_bytes()
            shown = parse_shown(text)
            assert (path / "page_owner").stat().st_size == len(text)
        assert text.count(b", free_ts ") == (len(kept) if output_format == "6.1" else 0)
        assert text.count(b"\nPFN 0x") == (len(kept) if output_format == "6.12" else 0)
        for record, here in zip(kept, shown, strict=True):
            assert (here.pfn, here.order) == (record.pfn, record.order)
            assert here.mask == int(record.mask.partition(b"(")[0], 16)
            assert here.ts == (record.ts if era.ts else 0)
            assert here.pid == (record.task.pid if era.pid else 0)
            assert here.comm == (record.task.comm if era.tgid else b"")
            assert here.stack + here.notes == record.stacktrace


def test_each_hostile_comm(tmp_path: Path) -> None:
    """Each name that misleads the kernel's tool comes back in its own record."""
    first = TEXT.partition(b"\n\n")[0]
    before, comm, after = re.split(rb"(?<=\()(\w+)(?=\), ts )", first, maxsplit=1)
    assert comm
    records = [before + hostile + after for hostile in HOSTILE_COMMS]
    text = b"".join(record + b"\n\n" for record in records)
    (tmp_path / "saved").write_bytes(text)
    with mounted(f"dump:{tmp_path / 'saved'}") as path:
        assert (path / "page_owner").read_bytes() == text
        stats = read_stats(path)
        assert (stats["records"], stats["damaged_records"]) == (len(HOSTILE_COMMS), 0)
        shown = parse_shown((path / "page_owner").read_bytes())
        assert [record.comm for record in shown] == list(HOSTILE_COMMS)


def test_crlf(tmp_path: Path) -> None:
    """Lines that end in CR LF stay that way."""
    text = TEXT.replace(b"\n", b"\r\n")
    (tmp_path / "saved").write_bytes(text)
    with mounted(f"dump:{tmp_path / 'saved'}") as path:
        assert (path / "page_owner").read_bytes() == text
        assert read_stats(path)["damaged_records"] == 0


@pytest.mark.slow
def test_whole_oracle() -> None:
    """The dump of a whole machine (46 MB, compressed) is read without damage."""
    text = kernel_file("page_owner.txt")
    with mounted(f"dump:{PAGE_OWNER}") as path:
        assert (path / "page_owner").read_bytes() == text
        stats = read_stats(path)
        assert (stats["records"], stats["damaged_records"]) == (ORACLE_RECORDS, 0)
        chance = random.Random(5)
        fd = os.open(path / "page_owner", os.O_RDONLY)
        try:
            for _ in range(60):
                offset, size = chance.randrange(len(text) + 99), chance.choice((1, 4096, 99_999))
                assert os.pread(fd, size, offset) == text[offset : offset + size]
        finally:
            os.close(fd)


# ---- damage ----


def sample_records() -> list[bytes]:
    """Return the records of the sample, each with its empty line."""
    return [record.text for record in parse_shown(TEXT)]


def cut(record: bytes) -> bytes:
    """Drop the end: the next record begins in the middle of a line."""
    return record[:150]


def spliced(record: bytes) -> bytes:
    """Continue with other text in the PFN line."""
    return record[: record.index(b"\nPFN") + 8] + b"xyz\n\n"


def overwritten(record: bytes) -> bytes:
    """Overwrite the order in the header."""
    return record.replace(b"via order ", b"via \0\xff\xfe\0 ", 1)


def garbage(record: bytes) -> bytes:
    """Replace it with binary bytes."""
    return random.Random(record).randbytes(3000).replace(b"\n", b"\0") + b"\n\n"


@pytest.mark.parametrize("damage", [cut, spliced, overwritten, garbage])
def test_damage(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    """Damaged records are counted and left out, and all others are unchanged."""
    records = sample_records()
    damaged = {0, 7, 8, len(records) - 2}
    saved = tmp_path / "saved"
    saved.write_bytes(b"".join(damage(r) if i in damaged else r for i, r in enumerate(records)))
    expected = [record for i, record in enumerate(records) if i not in damaged]
    with mounted(f"dump:{saved}") as path:
        assert (path / "page_owner").read_bytes() == b"".join(expected)
        stats = read_stats(path)
        assert stats["records"] == len(expected)
        # Adjacent damaged records may count as one.
        assert len(damaged) - 1 <= stats["damaged_records"] <= len(damaged)


def test_cut_end(tmp_path: Path) -> None:
    """A text that ends in the middle of a record lacks that record, and the log says so."""
    records = sample_records()
    saved = tmp_path / "saved"
    saved.write_bytes(TEXT[: -len(records[-1]) + 120])
    with mounted(f"dump:{saved}") as path:
        assert (path / "page_owner").read_bytes() == b"".join(records[:-1])
        assert read_stats(path)["damaged_records"] == 1
        done = subprocess.run(
            [*MODULE, "status", path], capture_output=True, text=True, check=True
        )
        assert "damaged_records 1" in done.stdout


def test_many_damages(tmp_path: Path) -> None:
    """In a randomly overwritten dump, complete records survive in order, and nothing else."""
    chance = random.Random(11)
    dump = make_dump(chance, eras=[V6_12], nr_records=3000)
    text = bytearray(dump.data)
    touched = set()
    offsets = [dump.offset(index) for index in range(0, 3000, 50)]
    for index, offset in zip(range(0, 3000, 50), offsets, strict=True):
        # The first word of the header: without it there is no record, whatever else is left.
        text[offset : offset + 4] = bytes(chance.choice(b"\0\xffxyz") for _ in range(4))
        touched.add(index)
    touched |= {i for i, record in enumerate(dump.records) if not record.has_pfn}
    saved = tmp_path / "saved"
    saved.write_bytes(text)
    with mounted(f"dump:{saved}") as path:
        kept = [r.whole for i, r in enumerate(dump.records) if i not in touched]
        assert (path / "page_owner").read_bytes() == b"".join(kept)
        stats = read_stats(path)
        assert (stats["records"], stats["damaged_records"]) == (len(kept), len(touched))


# ---- errors ----


def make_bad(kind: str, folder: Path) -> Path:
    """Make a file that cannot be mounted."""
    path = folder / "bad"
    match kind:
        case "directory":
            path.mkdir()
        case "empty":
            path.touch()
        case "no dump":
            path.write_text("some text\nthat is something else\n\n" * 50)
        case "binary":
            path.write_bytes(random.Random(1).randbytes(100_000))
        case "damaged xz":
            data = bytearray(lzma.compress(TEXT * 20))
            data[len(data) // 2 : len(data) // 2 + 50] = bytes(50)
            path.write_bytes(data)
        case "cut xz":
            data = bytearray(lzma.compress(TEXT))
            path.write_bytes(data[:50])  # too short to decompress anything
        case "damaged gz":
            data = bytearray(gzip.compress(TEXT))
            data[len(data) // 2 : len(data) // 2 + 50] = bytes(50)
            path.write_bytes(data)
        case "packed nothing":
            path.write_bytes(lzma.compress(b""))
    return path


@pytest.mark.parametrize("foreground", [False, True], ids=["background", "foreground"])
@pytest.mark.parametrize(
    "kind",
    [
        *("missing", "directory", "empty", "no dump", "binary", "damaged xz", "cut xz"),
        *("damaged gz", "packed nothing"),
    ],
)
def test_errors(tmp_path: Path, kind: str, *, foreground: bool) -> None:
    """An error is one line that names the file, has an exit code, and leaves nothing mounted."""
    bad = make_bad(kind, tmp_path)
    path = tmp_path / "mnt"
    path.mkdir()
    done = run_mount(f"dump:{bad}", path, *(["-f"] if foreground else []))
    assert done.returncode not in (0, 130), done.stderr
    lines = done.stderr.splitlines()
    # With -f, the log may report damage before the error.
    errors = [
        line for line in lines if not re.search(r"; skipped$|damaged records in total", line)
    ]
    assert len(errors) == 1, done.stderr
    assert foreground or lines == errors
    assert str(bad) in errors[0]
    assert not is_mounted(path)


@pytest.mark.parametrize("text", [b"", b"nothing\n"])
def test_errors_of_standard_input(tmp_path: Path, text: bytes) -> None:
    """A pipe that is empty, or holds something else, fails the same way."""
    saved, path = tmp_path / "saved", tmp_path / "mnt"
    saved.write_bytes(text)
    path.mkdir()
    with saved.open("rb") as file:
        done = run_mount("dump:-", path, stdin=file)
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1
    assert "standard input" in done.stderr
    assert not is_mounted(path)


def test_interrupted_pipe(tmp_path: Path) -> None:
    """A signal ends the wait for a pipe that delivers nothing."""
    path = tmp_path / "mnt"
    path.mkdir()
    line: list[str | Path] = [*MODULE, "dump:-", path, "-f"]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdin is not None
        child.stdin.write(TEXT)
        child.stdin.flush()
        # It waits for more data, and sees the signal once that has arrived.
        assert process_lives(child.pid)
        child.terminate()
        child.stdin.close()
        child.stdin = None
        child.communicate(timeout=TIMEOUT)
        assert child.returncode != 0
        assert not is_mounted(path)


# ---- formats ----


def test_format_6_1(tmp_path: Path) -> None:
    """``-o format=6.1`` changes PFNs to decimal and adds the time of the last free."""
    with mounted(f"dump:{SAMPLE}", "format=6.1") as path:
        text = (path / "page_owner").read_bytes()
        assert (path / "page_owner").stat().st_size == len(text)
    shown, here = parse_shown(TEXT), parse_shown(text)
    assert text.count(b", free_ts ") == len(shown)
    assert b"PFN 0x" not in text
    keep = (
        "order",
        "mask",
        "pid",
        "tgid",
        "comm",
        "ts",
        "pfn",
        "block",
        "flags",
        "stack",
        "notes",
    )
    assert [[getattr(r, name) for name in keep] for r in here] == [
        [getattr(r, name) for name in keep] for r in shown
    ]
    # And back again.
    saved = tmp_path / "6.1"
    saved.write_bytes(text)
    with mounted(f"dump:{saved}") as path:
        assert (path / "page_owner").read_bytes() == text
    with mounted(f"dump:{saved}", "format=6.12") as path:
        assert (path / "page_owner").read_bytes() == TEXT


def test_kernels_page_owner_sort(sample: Path, page_owner_sort: Path, tmp_path: Path) -> None:
    """The kernel's tool prints the same for the mounted file as for the saved one."""
    outputs = tmp_path / "mounted", tmp_path / "saved"
    for options in SORT_OPTIONS:
        for source, out in zip((sample / "page_owner", SAMPLE), outputs, strict=True):
            line: list[str | Path] = [page_owner_sort, *options, source, out]
            subprocess.run(line, capture_output=True, check=True)
        assert outputs[0].read_bytes() == outputs[1].read_bytes(), options
        assert outputs[0].read_bytes()


def test_kernels_page_owner_sort_6_1(page_owner_sort_6_1: Path, tmp_path: Path) -> None:
    """The tool of 6.1 reads format=6.1 and finds the time of the last free in it."""
    out = tmp_path / "out"
    with mounted(f"dump:{SAMPLE}", "format=6.1") as path:
        line: list[str | Path] = [page_owner_sort_6_1, "-r", path / "page_owner", out]
        subprocess.run(line, capture_output=True, check=True)
    times = sum(int(n) for n in re.findall(rb"^(\d+) times, ", out.read_bytes(), re.MULTILINE))
    assert times == len(parse_shown(TEXT))


def test_kernel_abi() -> None:
    """With kernel_abi, a dump is also read record by record, with PFNs as positions."""
    records = parse_shown(TEXT)
    with mounted(f"dump:{SAMPLE}", "kernel_abi") as path:
        assert (path / "page_owner").stat().st_size == 0
        assert read_unbuffered(path / "page_owner", 4096) == TEXT
        fd = os.open(path / "page_owner", os.O_RDONLY)
        try:
            for record in records[:20]:
                assert os.pread(fd, 4096, record.pfn) == record.text
        finally:
            os.close(fd)


def test_zones(tmp_path: Path) -> None:
    """``-o zones=`` names the zones, which page flags only number."""
    del tmp_path
    with mounted(f"dump:{SAMPLE}", "zones=First:Second") as path:
        text = (path / "pagetypeinfo").read_text()
        assert "zone   Second" in text
        assert "DMA" not in text
        # Page flags are shown as they were printed.
        assert (path / "page_owner").read_bytes() == TEXT


def test_unknown_zones_option(tmp_path: Path) -> None:
    """An unknown option of a dump is a usage error in one line."""
    path = tmp_path / "mnt"
    path.mkdir()
    for option in ("size=64M", "until=1", "zones=", "format=5.0", "snapshots=x"):
        done = run_mount(f"dump:{SAMPLE}", path, "-o", option)
        assert done.returncode == 2, option
        assert option.partition("=")[0] in done.stderr
        assert not is_mounted(path)
