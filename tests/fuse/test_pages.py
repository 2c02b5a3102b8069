"""pages/PFN: everything that is known about one page."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from data import SAMPLE
from mounts import mounted
from views import client, parse_shown, read_shown, read_unbuffered, said

from pageownerfs import GFP_HIGHUSER_MOVABLE, GFP_KERNEL, Pool
from pageownerfs.views.owner_process import owner_process

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.require("fuse", "shm")

HERE = Path(__file__).name
NR_LISTED = 5000
NONSENSE = (
    *("x", "0x", "12g", "-1", "+1", "0xg", "1.0", "1e3", "0X10", "0b1", "0o7", " 1", "1 ", "1\n"),
    *("0x-1", "page_owner", "0x10x", "१", "1_0", "0x1_0"),
)
# Allocates through two functions, reports the PFN, and waits.
CLIENT = r"""
import json, sys
from pageownerfs import Pool

def client_keeps(pool):
    return pool.alloc_pages(2, 0x100cca)

with Pool.attach(sys.argv[1]) as pool:
    page = client_keeps(pool)
    print(json.dumps(page.pfn), flush=True)
    sys.stdin.read()
"""


class Pages(NamedTuple):
    """The pages of the module's pool."""

    path: Path
    nr_pages: int
    early: int
    block: int
    """Head of a block of 8 pages."""
    freed: int
    """Head of a block of 4 pages that was freed."""
    untouched: int
    """A page that was never allocated."""


def block_is_kept(pool: Pool) -> int:
    """Leave a block allocated."""
    return pool.alloc_pages(3, GFP_KERNEL).pfn


def block_is_freed(pool: Pool) -> int:
    """Allocate a block and free it."""
    page = pool.alloc_pages(2, GFP_HIGHUSER_MOVABLE)
    pfn = page.pfn
    pool.free_pages(page)
    return pfn


@pytest.fixture(scope="module")
def pages() -> Iterator[Pages]:
    """Mount a pool with pages of all kinds."""
    with mounted("pool", "size=64M") as path, Pool.attach(path) as pool:
        early = pool.alloc_pages(0).pfn
        (path / "page_owner_on").write_text("1")
        block, freed = block_is_kept(pool), block_is_freed(pool)
        untouched = next(
            pfn
            for pfn in range(pool.nr_pages - 1, 0, -1)
            if pool.page_info(pfn).state in ("free", "buddy")
        )
        yield Pages(path, pool.nr_pages, early, block, freed, untouched)


def page(pages: Pages, pfn: int) -> str:
    """Read the text of a page; decimal and hexadecimal names give the same."""
    folder = pages.path / "pages"
    text = (folder / f"{pfn:#x}").read_text()
    assert (folder / str(pfn)).read_text() == text
    assert (folder / f"0x{pfn:X}").read_text() == text
    assert (folder / f"0x{pfn:x}").stat().st_mode & 0o7777 == 0o400
    return text


def test_allocated(pages: Pages) -> None:
    """The head of a block shows its order, its owner, and its stack with file and line."""
    text = page(pages, pages.block)
    assert text.startswith(f"page: pfn:{pages.block:#x} allocated refcount:1\n")
    assert f"\nblock: pfn:{pages.block:#x} order:3 (8 pages)\n" in text
    assert "\npage_owner tracks the page as allocated\n" in text
    assert "order 3, migratetype Unmovable, gfp_mask 0xcc0(GFP_KERNEL), pid " in text
    (line,) = re.findall(r"^ block_is_kept \(.*\)", text, re.MULTILINE)
    found = re.fullmatch(rf" block_is_kept \((/.*/{HERE}):(\d+)\)", line)
    assert found, line
    source = Path(found[1]).read_text().splitlines()[int(found[2]) - 1]
    assert "pool.alloc_pages(3, GFP_KERNEL)" in source
    assert "page_owner free stack trace missing\n" in text


def test_same_as_the_record(pages: Pages) -> None:
    """Numbers and names match the page's record in page_owner."""
    (record,) = [record for record in read_shown(pages.path) if record.pfn == pages.block]
    text = page(pages, pages.block)
    comm = record.comm.decode()
    assert f"pid {record.pid}, tgid {record.tgid} ({comm}), ts {record.ts}, free_ts 0\n" in text
    assert f"\npageblock migratetype: {record.block_mt}\n" in text
    assert f"\nflags: {record.flags.decode()}\n" in text


def test_midst_of_a_block(pages: Pages) -> None:
    """Each page of a block names the block and shows its owner."""
    head = page(pages, pages.block)
    for number in range(1, 8):
        text = page(pages, pages.block + number)
        assert text.startswith(f"page: pfn:{pages.block + number:#x} allocated ")
        assert f"block: pfn:{pages.block:#x} order:3 (8 pages), offset {number}\n" in text
        assert text.partition("page_owner tracks")[2] == head.partition("page_owner tracks")[2]


def test_freed(pages: Pages) -> None:
    """A freed page shows who had it, who freed it, and with which stack."""
    for number in range(4):
        text = page(pages, pages.freed + number)
        assert "\npage_owner tracks the page as freed\n" in text
        assert "block:" not in text.partition("pageblock")[0]
        assert re.search(
            r"^page last allocated via order 2, migratetype Movable, ", text, re.MULTILINE
        )
        before, _, after = text.partition("page last free pid ")
        assert " block_is_freed (" in before
        frames = after.partition("stack trace:\n")[2]
        assert re.match(rf" block_is_freed \(/.*/{HERE}:\d+\)", frames)
        ts, free_ts = map(int, re.findall(r"ts (\d+), free_ts (\d+)\n", text)[0])
        assert 0 < ts <= free_ts
        # Nobody owns it now.
        assert "process" not in text


def test_freed_and_allocated_again(pages: Pages) -> None:
    """A page that was freed and allocated again shows both."""
    with Pool.attach(pages.path) as pool:
        freed = block_is_freed(pool)
        blocks = [pool.alloc_pages(2, GFP_HIGHUSER_MOVABLE) for _ in range(3)]
        assert freed in {block.pfn for block in blocks}
        text = page(pages, freed)
        for block in blocks:
            pool.free_pages(block)
    assert "tracks the page as allocated" in text
    assert "block_is_freed (" in text.partition("page last free pid")[2]


def test_never_touched(pages: Pages) -> None:
    """A page that was never allocated says so."""
    text = page(pages, pages.untouched)
    assert re.match(r"page: pfn:0x[0-9a-f]+ free(, first page of a free block)? ", text)
    assert "page_owner info is not present (never set?)\n" in text


def test_early(pages: Pages) -> None:
    """A page from before tracking says so and names no process."""
    text = page(pages, pages.early)
    assert "page_owner tracks the page as allocated before tracking began\n" in text
    assert " register_early_stack (" in text
    assert "alive" not in text


def test_owner_lives_and_ends(pages: Pages) -> None:
    """The owner is reported as alive while it exists, and then as ended."""
    with client(CLIENT, pages.path) as child:
        pfn = said(child)
        text = page(pages, pfn)
        assert re.search(rf"^process {child.pid} \(\S+\) is alive$", text, re.MULTILINE)
        assert " client_keeps (<string>:6)" in text
        assert page(pages, pfn + 3).endswith(text.splitlines()[-1] + "\n")
    assert page(pages, pfn).endswith(f"\nprocess {child.pid} has ended\n")


def test_owner_is_a_zombie(pages: Pages) -> None:
    """A zombie counts as ended."""
    with client(CLIENT, pages.path) as child:
        pfn = said(child)
        child.kill()
        status = Path(f"/proc/{child.pid}/stat")
        while status.read_text().rpartition(")")[2].split()[0] != "Z":
            pass
        (line,) = re.findall(r"^process .*$", page(pages, pfn), re.MULTILINE)
        assert re.fullmatch(
            rf"process {child.pid} \(.*\) has ended, but its parent has not reaped it", line
        )


def test_number_used_again() -> None:
    """A process that started after the allocation is another one with the same number."""
    now_nsec = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    me = os.getpid()
    assert re.fullmatch(rf"process {me} \(.+\) is alive", owner_process(me, now_nsec))
    line = owner_process(me, 1)
    assert re.fullmatch(
        rf"process {me} has ended; its pid now belongs to another process \(.+\)", line
    )
    assert owner_process(0, now_nsec) == "process 0 is the kernel itself"


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense(pages: Pages, name: str) -> None:
    """A name that is not a page number gives ENOENT."""
    with pytest.raises(FileNotFoundError):
        (pages.path / "pages" / name).read_bytes()


def test_out_of_range(pages: Pages) -> None:
    """A number beyond the last page gives ENOENT; the last page exists."""
    last = pages.nr_pages - 1
    assert page(pages, last).startswith(f"page: pfn:{last:#x} ")
    assert page(pages, 0).startswith("page: pfn:0x0 ")
    for pfn in (last + 1, last + 2, 1 << 31, 1 << 32, (1 << 52) - 1, 10**15):
        for name in (str(pfn), hex(pfn)):
            with pytest.raises(FileNotFoundError):
                (pages.path / "pages" / name).stat()
    for name in ("9" * 17, "9" * 255, "0x" + "f" * 14, "0x" + "f" * 200):
        with pytest.raises(FileNotFoundError):
            (pages.path / "pages" / name).stat()


def test_every_page(pages: Pages) -> None:
    """The file of every page can be read, and its state matches the pool."""
    with Pool.attach(pages.path) as pool:
        step = pages.nr_pages // 300
        for pfn in range(0, pages.nr_pages, step):
            text = (pages.path / "pages" / str(pfn)).read_text()
            state = pool.page_info(pfn).state
            assert text.startswith(f"page: pfn:{pfn:#x} {state} "), state


def test_small_reads(pages: Pages) -> None:
    """A page's file can be read in steps of any size."""
    path = pages.path / "pages" / hex(pages.block)
    text = path.read_bytes()
    assert read_unbuffered(path, 7) == text
    assert path.stat().st_size == len(text)


def test_nothing_is_made(pages: Pages) -> None:
    """Files of pages cannot be created, written or removed."""
    folder = pages.path / "pages"
    with pytest.raises(OSError, match="denied"):
        (folder / "new").touch()
    with pytest.raises(OSError, match="not permitted"):
        (folder / hex(pages.block)).unlink()
    with pytest.raises(OSError, match="Invalid"):
        (folder / hex(pages.block)).write_bytes(b"1")
    with pytest.raises(OSError, match="not permitted"):
        (folder / "new").mkdir()
    with pytest.raises(OSError, match="not permitted"):
        (folder / "new").symlink_to("x")


# ---- the listing ----


def listed(mnt: Path) -> list[str]:
    """Return the names in the directory, in order."""
    return [path.name for path in (mnt / "pages").iterdir()]


def test_listed(pages: Pages) -> None:
    """Exactly the heads that page_owner shows are listed."""
    names = listed(pages.path)
    assert names == [hex(record.pfn) for record in read_shown(pages.path)]
    assert hex(pages.block) in names
    assert hex(pages.early) in names
    assert (pages.path / "pages").stat().st_mode & 0o7777 == 0o500


@pytest.mark.slow
def test_listed_up_to_5000() -> None:
    """Up to 5000 blocks are all listed; beyond that some are, and any can be opened."""
    with mounted("pool", "size=64M", "page_owner=on") as path, Pool.attach(path) as pool:
        nr = len(listed(path))
        blocks = [pool.alloc_pages() for _ in range(NR_LISTED - nr)]
        names = listed(path)
        assert len(names) == NR_LISTED
        assert names == [hex(record.pfn) for record in read_shown(path)]
        blocks.append(pool.alloc_pages())
        records = {hex(record.pfn): record for record in read_shown(path)}
        names = listed(path)
        assert 0 < len(names) < NR_LISTED
        assert names == sorted(set(names), key=lambda name: int(name, 16))
        assert names == [n for n, r in records.items() if not r.is_early][: len(names)]
        assert {hex(block.pfn) for block in blocks} - set(names)
        assert all((path / "pages" / hex(block.pfn)).exists() for block in blocks)


def test_dump() -> None:
    """A dump knows the pages of its records, tail pages included, and no others."""
    records = parse_shown(SAMPLE.read_bytes())
    covered = {r.pfn + number for r in records for number in range(r.nr_pages)}
    end = max(covered) + 1
    with mounted(f"dump:{SAMPLE}") as path:
        assert listed(path) == [hex(record.pfn) for record in records]
        for record in records:
            for number in {0, record.nr_pages // 2, record.nr_pages - 1}:
                text = (path / "pages" / hex(record.pfn + number)).read_bytes()
                assert b"block: pfn:%#x order:%d" % (record.pfn, record.order) in text
                assert b" (" + record.comm + b"), ts %d" % record.ts in text
                assert record.stack in text
                for line in record.notes.splitlines():
                    assert line in text or not line.startswith(b"Charged ")
                # Its processes belong to another machine.
                assert b"alive" not in text
                assert b"has ended" not in text
            after = record.pfn + record.nr_pages
            if after not in covered:
                text = (path / "pages" / str(after)).read_bytes() if after < end else b""
                assert text in {
                    b"",
                    b"page: pfn:%#x has no record: not allocated, or not recorded\n" % after,
                }
                assert (path / "pages" / str(after)).exists() == (after < end)
