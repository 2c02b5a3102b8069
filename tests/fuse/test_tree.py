"""All files of all mounts can be listed and read, and nothing else can be done with them."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from data import DATA, SAMPLE
from mounts import MODULE, mounted, status_of
from views import read_shown, read_stats, read_unbuffered, tree_files

from pageownerfs import GFP_KERNEL, Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.require("fuse", "shm")

SORTED = {
    f"sorted/by_{name}"
    for name in (*("times", "memory", "pid", "tgid", "name", "stacktrace", "allocator", "module"),)
}
STACKS = {
    f"page_owner_stacks/{name}"
    for name in ("show_stacks", "show_handles", "show_stacks_handles", "count_threshold")
}
FREE_AREAS = {"buddyinfo", "extfrag/extfrag_index", "extfrag/unusable_index"}
OF_RECORDS = {"page_owner", "stats", *SORTED, *STACKS}
# The files of a pool that does not track owners.
OFF = {"page_owner_on", "stats", *FREE_AREAS}
FILES = {
    "pool": {*OF_RECORDS, "pagetypeinfo", "page_owner_on", *FREE_AREAS},
    "dump": {*OF_RECORDS, "pagetypeinfo"},
    "trace": OF_RECORDS,
}
ABSENT = {
    "pool": set[str](),
    "dump": {"page_owner_on", "buddyinfo", "extfrag"},
    "trace": {"page_owner_on", "buddyinfo", "extfrag", "pagetypeinfo"},
}


@pytest.fixture(scope="module")
def pool() -> Iterator[Path]:
    """Mount a pool with some pages and a snapshot."""
    with mounted("pool", "size=16M", "page_owner=on") as path:
        with Pool.attach(path) as attached:
            for order in (0, 1, 2, 3) * 5:
                attached.alloc_pages(order, GFP_KERNEL)
        (path / "snapshots" / "one").mkdir()
        yield path


@pytest.fixture(scope="module")
def dump() -> Iterator[Path]:
    """Mount a dump with a snapshot."""
    with mounted(f"dump:{SAMPLE}") as path:
        (path / "snapshots" / "one").mkdir()
        yield path


@pytest.fixture(scope="module")
def trace() -> Iterator[Path]:
    """Mount a trace with a snapshot."""
    with mounted(f"trace:{DATA / 'trace_sample.txt'}") as path:
        (path / "snapshots" / "one").mkdir()
        yield path


@pytest.fixture(params=["pool", "dump", "trace"])
def mount(request: pytest.FixtureRequest) -> tuple[str, Path]:
    """Return each source and its mount."""
    return request.param, request.getfixturevalue(request.param)


def files_of(mnt: Path) -> set[str]:
    """Return the listed files, except pages and snapshots."""
    return {name for name in tree_files(mnt) if not name.startswith(("pages/", "snapshots/"))}


def errno_of(attempt: Callable[[], object]) -> int:
    """Return the errno of an attempt, which must not succeed."""
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is checked below
        attempt()
    return caught.value.errno or -1


def status_json(mnt: Path) -> dict[str, str]:
    """Return which files are absent, and why, from ``pageownerfs status --json``."""
    done = subprocess.run([*MODULE, "status", "--json", mnt], capture_output=True, check=True)
    absent: dict[str, str] = json.loads(done.stdout)["absent"]
    return absent


def test_files(mount: tuple[str, Path]) -> None:
    """Each source has its own files and gives a reason for each that it lacks."""
    source, path = mount
    assert files_of(path) == FILES[source]
    absent = status_json(path)
    assert absent.keys() == ABSENT[source]
    assert all(re.fullmatch(r"[a-z].{10,}", reason) for reason in absent.values()), absent
    done = subprocess.run([*MODULE, "status", path], capture_output=True, text=True, check=True)
    for name, reason in absent.items():
        assert not (path / name).exists()
        assert name in done.stdout
        assert reason in done.stdout


@pytest.mark.parametrize(
    "command",
    [
        "ls -lR {0}",
        "ls -laR --time-style=full-iso {0}",
        "find {0} -type f -exec cat {{}} +",
        "find {0} -type f -print0 | xargs -0 cat | wc -c",
        "find {0} -name 'p*' -o -type d | sort",
        "du -a {0}",
        "grep -rc . {0}",
        "tar -C {0} -cf - . | tar -tf -",
        "cp -r {0} $OUT && diff -r {0}/page_owner_stacks $OUT/page_owner_stacks && echo same",
        "stat {0}/* {0}/*/*",
    ],
)
def test_tools(mount: tuple[str, Path], tmp_path: Path, command: str) -> None:
    """A walk over the whole tree finds only readable files."""
    _, path = mount
    line = "set -e; " + command.format(path)
    if command.startswith("tar"):
        # tar cuts files of size 0 and says so; that is not an error.
        line += " || [ $? = 1 ]"
    environment = {**os.environ, "OUT": str(tmp_path / "out")}
    done = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    if not command.startswith("tar"):
        assert done.stderr == b""


def test_reads_are_steady(mount: tuple[str, Path]) -> None:
    """Every file gives the same text twice while nobody allocates, with any read size."""
    _, path = mount
    for name, file in tree_files(path).items():
        if name.endswith("stats"):
            continue
        text = file.read_bytes()
        assert read_unbuffered(file, 997) == text, name
        size = file.stat().st_size
        assert size == len(text), name


def test_stats(mount: tuple[str, Path]) -> None:
    """Each line of stats is a name and a number."""
    source, path = mount
    stats = read_stats(path)
    assert len(stats) >= 5
    if source != "pool":
        assert stats["records"] == len(read_shown(path))
        assert status_of(path)["stats"] == stats


def test_modes(mount: tuple[str, Path]) -> None:
    """Files that reveal nothing about processes are world-readable; three kinds are writable."""
    _, path = mount
    for name, file in tree_files(path).items():
        mode = file.stat().st_mode & 0o7777
        base = name.removeprefix("snapshots/one/")
        if base in ("page_owner", "page_owner_on", "page_owner_stacks/count_threshold"):
            assert mode == 0o600, name
        elif base in FREE_AREAS:
            assert mode == 0o444, name
        else:
            assert mode == 0o400, name
        assert file.stat().st_uid == os.getuid()


def test_nothing_can_be_made(mount: tuple[str, Path]) -> None:
    """No file can be made, moved, linked or removed in any directory."""
    if os.geteuid():
        pytest.skip("needs root: the errnos are root's")
    _, path = mount
    folders = [path, *(p for p in path.rglob("*") if p.is_dir())]
    assert len(folders) > 6
    for folder in folders:
        new = folder / "new"
        assert errno_of(new.touch) == errno.EACCES
        assert errno_of(lambda new=new: new.symlink_to("x")) == errno.EPERM  # type: ignore[misc]
        assert errno_of(lambda new=new: os.mkfifo(new)) == errno.EPERM  # type: ignore[misc]
        assert errno_of(lambda new=new: os.link(path / "stats", new)) == errno.EPERM  # type: ignore[misc]
        if folder != path / "snapshots":
            assert errno_of(new.mkdir) == errno.EPERM
        assert not new.exists()
    for file in tree_files(path).values():
        assert errno_of(file.unlink) == errno.EPERM
        assert errno_of(lambda file=file: file.rename(path / "new")) == errno.EPERM  # type: ignore[misc]


def test_nothing_can_be_written(mount: tuple[str, Path]) -> None:
    """A write that is not a valid command fails and changes nothing."""
    _, path = mount
    for name, file in tree_files(path).items():
        if name.endswith("stats"):
            continue
        before = file.read_bytes()
        for data in (b"xyz\n", b"-1", b"\0\xff"):

            def write(file: Path = file, data: bytes = data) -> None:
                with file.open("wb", buffering=0) as stream:
                    stream.write(data)

            assert errno_of(write) in (errno.EACCES, errno.EINVAL, errno.EPERM), name
        assert file.read_bytes() == before, name


def test_unknown_names(mount: tuple[str, Path]) -> None:
    """A missing name gives ENOENT, and a name below a file ENOTDIR."""
    _, path = mount
    for name in (
        "x",
        "sorted/x",
        "page_owner_stacks/x",
        "snapshots/x",
        "snapshots/x/stats",
        "PAGE_OWNER",
    ):
        assert errno_of((path / name).stat) == errno.ENOENT
    for name in ("stats/x", "page_owner/x", "sorted/by_pid/x"):
        assert errno_of((path / name).stat) == errno.ENOTDIR
    assert errno_of((path / "sorted").read_bytes) == errno.EISDIR
    assert errno_of(lambda: next((path / "stats").iterdir())) == errno.ENOTDIR


def test_off() -> None:
    """Without page_owner=on only files that need no owners exist; writing 1 adds the rest."""
    with mounted("pool", "size=16M") as path:
        with Pool.attach(path) as pool:
            pool.alloc_pages()
        assert files_of(path) == OFF
        top = {entry.name for entry in path.iterdir()}
        assert top == {"page_owner_on", "stats", "buddyinfo", "extfrag"}
        absent = status_json(path)
        assert absent.keys() == {
            *("page_owner", "page_owner_stacks", "pages", "pagetypeinfo", "sorted", "snapshots"),
        }
        assert len(set(absent.values())) == 1
        assert "off" in absent["page_owner"]
        for name in absent:
            assert errno_of((path / name).stat) == errno.ENOENT
        assert errno_of((path / "snapshots" / "one").mkdir) == errno.ENOENT
        subprocess.run(["ls", "-lR", path], check=True, capture_output=True)
        subprocess.run(["sh", "-c", f"echo 1 > {path}/page_owner_on"], check=True)
        assert files_of(path) == FILES["pool"]
        assert status_json(path) == {}
        (path / "snapshots" / "one").mkdir()
        subprocess.run(
            ["find", path, "-type", "f", "-exec", "cat", "{}", "+"],
            check=True,
            capture_output=True,
        )


def test_sendfile(mount: tuple[str, Path], tmp_path: Path) -> None:
    """Python and busybox, which copy with sendfile(), also get the whole of each file."""
    _, path = mount
    for name, file in tree_files(path).items():
        if not name.endswith("stats"):
            copy = tmp_path / "copy"
            shutil.copyfile(file, copy)
            assert copy.read_bytes() == file.read_bytes(), name
