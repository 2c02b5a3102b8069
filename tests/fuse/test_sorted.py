"""sorted/: the output of page_owner_sort as files of the mount."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from data import PAGE_OWNER, SAMPLE, kernel_file
from mounts import mounted
from views import read_shown, read_unbuffered

from pageownerfs import GFP_HIGHUSER_MOVABLE, GFP_KERNEL, Pool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.require("fuse", "shm"), pytest.mark.slow]

SORT = (sys.executable, "-m", "pageownerfs.page_owner_sort")
OPTIONS = {
    "by_times": "-t",
    "by_memory": "-m",
    "by_pid": "-p",
    "by_tgid": "-P",
    "by_name": "-n",
    "by_stacktrace": "-s",
    "by_allocator": "--sort=allocator",
    "by_module": "-M",
}
GROUP = re.compile(rb"^(\d+) times, (\d+) pages", re.MULTILINE)
# A comm that the kernel's tool misreads.
MISLEADING = re.compile(rb"tgid \d+ \([^)]*(?:\)[^,]|\n|ts\s*\d*\s*ns)")


@pytest.fixture(scope="module")
def dump() -> Iterator[Path]:
    """Mount the sample from a real kernel."""
    with mounted(f"dump:{SAMPLE}") as path:
        yield path


@pytest.fixture(scope="module")
def pool_path() -> Iterator[Path]:
    """Mount a pool with pages from several functions, some of them CMA."""
    with mounted("pool", "size=32M", "cma=8M", "page_owner=on") as path:
        with Pool.attach(path) as pool:
            for _ in range(40):
                pool.alloc_pages(0, GFP_KERNEL)
            for order in (3, 1, 1):
                for _ in range(order + 5):
                    pool.alloc_pages(order, GFP_HIGHUSER_MOVABLE)
        yield path


def sort(option: str, file: Path) -> bytes:
    """Return the output of the package's tool."""
    done = subprocess.run([*SORT, option, file, "-"], capture_output=True, check=True)
    assert done.stderr == b""
    return done.stdout


def groups(text: bytes) -> Counter[bytes]:
    """Return the groups of an output, in any order."""
    parts = re.split(rb"^(?=\d+ times, \d+ pages)", text, flags=re.MULTILINE)
    return Counter(part for part in parts if part)


@pytest.mark.parametrize("mount", ["dump", "pool_path"])
@pytest.mark.parametrize("name", OPTIONS)
def test_as_page_owner_sort(mount: str, name: str, request: pytest.FixtureRequest) -> None:
    """Each file equals the output of page_owner_sort with some option, byte for byte."""
    path: Path = request.getfixturevalue(mount)
    file = path / "sorted" / name
    text = file.read_bytes()
    assert text == sort(OPTIONS[name], path / "page_owner")
    assert text.startswith(b"%d times, " % int(text.partition(b" ")[0]))
    assert file.stat().st_mode & 0o7777 == 0o400
    assert file.stat().st_size == len(text)
    assert read_unbuffered(file, 501) == text


@pytest.mark.parametrize("mount", ["dump", "pool_path"])
def test_all_files_have_all_records(mount: str, request: pytest.FixtureRequest) -> None:
    """The eight files have the same groups, which contain all records and pages."""
    path: Path = request.getfixturevalue(mount)
    names = {file.name for file in (path / "sorted").iterdir()}
    assert names == set(OPTIONS)
    records = read_shown(path)
    texts = {name: (path / "sorted" / name).read_bytes() for name in names}
    for name, text in texts.items():
        found = [(int(times), int(pages)) for times, pages in GROUP.findall(text)]
        assert sum(times for times, _ in found) == len(records), name
        assert sum(pages for _, pages in found) == sum(r.nr_pages for r in records), name
        assert groups(text) == groups(texts["by_times"])
    times = [int(times) for times, _ in GROUP.findall(texts["by_times"])]
    pages = [int(pages) for _, pages in GROUP.findall(texts["by_memory"])]
    assert times == sorted(times, reverse=True)
    assert pages == sorted(pages, reverse=True)


def test_as_the_kernels(dump: Path, page_owner_sort: Path, tmp_path: Path) -> None:
    """The kernel's own tool prints the same for records that it reads correctly."""
    out = tmp_path / "out"
    for name in ("by_times", "by_memory", "by_pid", "by_tgid", "by_name", "by_stacktrace"):
        line: list[str | Path] = [page_owner_sort, OPTIONS[name], dump / "page_owner", out]
        subprocess.run(line, capture_output=True, check=True)
        here, there = groups((dump / "sorted" / name).read_bytes()), groups(out.read_bytes())
        odd = [group for group in (here - there) + (there - here) if not MISLEADING.search(group)]
        assert not odd, odd
        assert (here & there).total() > 20


@pytest.mark.slow
def test_oracle() -> None:
    """For a whole machine's dump, by_memory has the groups that the kernel's tool printed."""
    there = groups(kernel_file("sorted/m.txt"))
    with mounted(f"dump:{PAGE_OWNER}") as path:
        text = (path / "sorted" / "by_memory").read_bytes()
        assert sum(int(times) for times, _ in GROUP.findall(text)) == len(read_shown(path))
    here = groups(text)
    # Some names mislead the tool; all groups without such a name are the same.
    odd = [group for group in (here - there) + (there - here) if not MISLEADING.search(group)]
    assert not odd, odd[:3]
    assert (here & there).total() > 0.9 * here.total()


def test_follows_the_pool(pool_path: Path) -> None:
    """The files are current."""
    before = (pool_path / "sorted" / "by_memory").read_bytes()
    with Pool.attach(pool_path) as pool:
        page = pool.alloc_pages(9, GFP_KERNEL)
        text = (pool_path / "sorted" / "by_memory").read_bytes()
        assert text.startswith(b"1 times, 512 pages")
        pool.free_pages(page)
    assert (pool_path / "sorted" / "by_memory").read_bytes() == before


def test_format_6_1(tmp_path: Path) -> None:
    """With another format, the files sort what that format shows."""
    del tmp_path
    with mounted(f"dump:{SAMPLE}", "format=6.1") as path:
        for name in ("by_memory", "by_allocator"):
            text = (path / "sorted" / name).read_bytes()
            assert text == sort(OPTIONS[name], path / "page_owner")
            assert b", free_ts " in text
