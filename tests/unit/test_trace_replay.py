"""Replay of traces: which pages are left at the end."""

from __future__ import annotations

import gzip
import lzma
import random
import re
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from data import TRACE, TRACE_SAMPLE, kernel_file

from pageownerfs.errors import PageOwnerError
from pageownerfs.mm.gfp import parse_gfp
from pageownerfs.sources.trace.replay import Replay, TracedPage, replay

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TRACED_PID = 462

# A loop over lines: slow, for the sample's kind of lines only, and independent of our code.
SAMPLE_LINE = re.compile(
    r" *(.+)-(\d+) +\[\d+\] \S+ +([\d.]+): (mm_page_alloc|mm_page_free): .*pfn=(0x\w+) order=(\d+)"
)


def expected_pages(text: str) -> dict[int, tuple[int, int, int, str, bool]]:
    """Replay in the simple way: PFN -> order, gfp mask, pid, comm, freed."""
    pages: dict[int, tuple[int, int, int, str, bool]] = {}
    for line in text.splitlines():
        if match := SAMPLE_LINE.match(line):
            comm, pid, _, what, pfn_text, order = match.groups()
            pfn = int(pfn_text, 16)
            if what == "mm_page_alloc":
                gfp_mask = parse_gfp(line.partition("gfp_flags=")[2])
                pages[pfn] = (int(order), gfp_mask, int(pid), comm, False)
            elif pfn in pages:
                pages[pfn] = (*pages[pfn][:4], True)
    return pages


def brief(page: TracedPage) -> tuple[int, int, int, str, bool]:
    """Return the fields of a page that expected_pages() has."""
    return (page.order, page.gfp_mask, page.pid, page.comm.decode(), page.freed)


class Recording:
    """An ftrace text that is made event by event and replayed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = [b"# tracer: nop"]

    def alloc(self, pfn: int, order: int = 0, pid: int = 1) -> None:
        """Add an allocation."""
        self._add(
            pid,
            b"mm_page_alloc: page=0000000012345678 pfn=0x%x order=%d migratetype=1"
            b" gfp_flags=GFP_KERNEL" % (pfn, order),
        )

    def free(self, pfn: int, order: int = 0, pid: int = 2) -> None:
        """Add a free."""
        self._add(pid, b"mm_page_free: page=0000000012345678 pfn=0x%x order=%d" % (pfn, order))

    def _add(self, pid: int, what: bytes) -> None:
        time = len(self._lines)
        head = b"%16s-%-7d [000] ..... %d.000000: " % (b"task", pid, time)
        self._lines += [head + what, head + b"<stack trace>", b" => at_%d" % time]

    def replay(self, until_nsec: int | None = None) -> Replay:
        """Replay it."""
        self._path.write_bytes(b"\n".join(self._lines) + b"\n")
        return replay(str(self._path), until_nsec)

    def blocks(self) -> list[tuple[int, int, int | None]]:
        """List PFN, order and who freed it, or None for an allocated block."""
        pages = self.replay().pages
        for page, following in pairwise(pages):
            assert page.pfn + (1 << page.order) <= following.pfn
        assert all(page.pfn % (1 << page.order) == 0 for page in pages)
        return [(page.pfn, page.order, page.free_pid if page.freed else None) for page in pages]

    def counters(self) -> dict[str, int]:
        """Return the nonzero counters, except those of events and stacks."""
        usual = {"alloc_events", "free_events", "stacks"}
        stats = self.replay().stats
        return {name: value for name, value in stats.items() if value and name not in usual}


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    """Make an empty recording."""
    return Recording(tmp_path / "trace")


def test_sample() -> None:
    """A part of a real trace gives the right pages and counters."""
    replayed = replay(str(TRACE_SAMPLE))
    assert {p.pfn: brief(p) for p in replayed.pages} == expected_pages(TRACE_SAMPLE.read_text())
    assert replayed.stats == {
        "alloc_events": 54,
        "free_events": 27,
        "other_events": 24,
        "lost_events": 0,
        "free_untracked": 4,
        "implied_frees": 0,
        "splits": 0,
        "damaged_lines": 0,
        "cut_events": 0,
        "cut_files": 0,
        "failed_allocs": 0,
        "unknown_gfp_names": 0,
        "stacks": 35,
    }
    live = Counter((p.pid, p.comm, p.order) for p in replayed.pages if not p.freed)
    assert live == {(459, b"cat", 0): 27, (459, b"cat", 3): 1, (1, b"init", 0): 3}
    assert sum(p.freed for p in replayed.pages) == 6
    assert replayed.last_ts_nsec == 13_440_765_000
    assert [p.pfn for p in replayed.pages] == sorted(p.pfn for p in replayed.pages)


def test_page_of_sample() -> None:
    """A page of the sample has all values of its allocation and free."""
    page = next(p for p in replay(str(TRACE_SAMPLE)).pages if p.order == 3)
    assert page == TracedPage(
        pfn=0x43B8,
        order=3,
        gfp_mask=0xD20C0,
        migratetype=0,
        pid=459,
        tgid=459,
        comm=b"cat",
        ts_nsec=13_440_680_000,
        stack=b" __alloc_pages_noprof\n allocate_slab\n ___slab_alloc\n __kmalloc_node_noprof\n"
        b" __kvmalloc_node_noprof\n seq_read_iter\n seq_read\n ksys_read\n do_syscall_64\n"
        b" entry_SYSCALL_64_after_hwframe\n",
        freed=False,
        free_ts_nsec=0,
        free_pid=0,
        free_tgid=0,
        free_stack=b"",
    )


def test_life_of_a_page(recording: Recording) -> None:
    """For a page allocated, freed and allocated again, only the last allocation counts."""
    recording.alloc(16, 1, pid=5)
    recording.free(16, 1, pid=6)
    (freed,) = recording.replay().pages
    assert freed == TracedPage(
        pfn=16,
        order=1,
        gfp_mask=0xCC0,
        migratetype=1,
        pid=5,
        tgid=5,
        comm=b"task",
        ts_nsec=1_000_000_000,
        stack=b" at_1\n",
        freed=True,
        free_ts_nsec=4_000_000_000,
        free_pid=6,
        free_tgid=6,
        free_stack=b" at_4\n",
    )
    recording.alloc(16, 1, pid=7)
    replayed = recording.replay()
    assert [(p.pid, p.freed, p.free_stack) for p in replayed.pages] == [(7, False, b"")]
    assert replayed.last_ts_nsec == 7_000_000_000
    assert recording.counters() == {}


def test_until(recording: Recording) -> None:
    """The state at an earlier time does not count what is later."""
    recording.alloc(1)
    recording.free(1)
    recording.free(2)
    replayed = recording.replay(until_nsec=3_999_999_999)
    assert [(p.pfn, p.freed) for p in replayed.pages] == [(1, False)]
    assert (replayed.stats["free_events"], replayed.stats["free_untracked"]) == (0, 0)
    assert replayed.stats["stacks"] == 1
    assert replayed.last_ts_nsec == 1_000_000_000
    assert recording.replay(until_nsec=4_000_000_000).pages[0].freed
    assert recording.replay(until_nsec=0) == Replay([], dict.fromkeys(replayed.stats, 0), 0)


@pytest.mark.parametrize(
    ("old", "new", "left"),
    [
        pytest.param([(16, 0)], (16, 0), [(16, 0)], id="the same"),
        pytest.param([(16, 2)], (16, 0), [(16, 0)], id="at its start"),
        pytest.param([(16, 2)], (18, 1), [(18, 1)], id="inside"),
        pytest.param([(17, 0), (18, 1), (20, 2)], (16, 2), [(16, 2), (20, 2)], id="around two"),
        pytest.param([(16, 0)], (16, 3), [(16, 3)], id="around one that starts there"),
        pytest.param([(0, 51)], (512, 9), [(512, 9)], id="in a giant"),
        pytest.param([(512, 9)], (0, 51), [(0, 51)], id="around all"),
    ],
)
def test_implied_frees(
    recording: Recording,
    old: list[tuple[int, int]],
    new: tuple[int, int],
    left: list[tuple[int, int]],
) -> None:
    """If pages of a block are allocated again, the whole block has ended: its free was lost."""
    for block in old:
        recording.alloc(*block)
    recording.alloc(*new)
    assert recording.blocks() == [(*block, None) for block in left]
    nr_ended = len(old) + 1 - len(left)
    assert recording.counters() == {"implied_frees": nr_ended}


@pytest.mark.parametrize(
    ("old", "free", "left"),
    [
        pytest.param((16, 2), (16, 0), [(16, 0, 2), *((p, 0, None) for p in (17, 18, 19))]),
        pytest.param((16, 2), (18, 0), [(16, 0, None), (17, 0, None), (18, 0, 2), (19, 0, None)]),
        pytest.param((16, 3), (20, 2), [(16, 2, None), (20, 2, 2)], id="half"),
        pytest.param((0, 10), (0, 8), [(0, 8, 2), *((p, 8, None) for p in (256, 512, 768))]),
        pytest.param((0, 9), (511, 0), [*((p, 0, None) for p in range(511)), (511, 0, 2)]),
        pytest.param(
            (0, 12), (0, 9), [(0, 9, 2), (512, 9, None), (1024, 10, None), (2048, 11, None)]
        ),
    ],
)
def test_splits(
    recording: Recording,
    old: tuple[int, int],
    free: tuple[int, int],
    left: list[tuple[int, int, int | None]],
) -> None:
    """After a part is freed, the other pages are blocks of that size with the same owner."""
    recording.alloc(*old, pid=9)
    recording.free(*free)
    assert recording.blocks() == left
    assert recording.counters() == {"splits": 1}
    pages = recording.replay().pages
    assert {(p.pid, p.ts_nsec, p.stack) for p in pages} == {(9, 1_000_000_000, b" at_1\n")}


def test_all_parts_of_a_block_are_freed(recording: Recording) -> None:
    """One split is followed by frees of whole blocks."""
    recording.alloc(8, 2)
    for pfn in (9, 8, 11, 10):
        recording.free(pfn)
    assert recording.blocks() == [(pfn, 0, 2) for pfn in (8, 9, 10, 11)]
    assert recording.counters() == {"splits": 1}


def test_a_giant_is_split_in_steps(recording: Recording) -> None:
    """A line cannot ask for more blocks than memory has."""
    recording.alloc(0, 51)
    recording.free(0, 0)
    recording.free((1 << 50) + 7, 0)
    assert len(recording.replay().pages) < 5000
    assert recording.counters() == {"splits": 2}
    assert sum(1 << p.order for p in recording.replay().pages) == 1 << 51


def test_free_of_more(recording: Recording) -> None:
    """A free of a block ends everything allocated in it, and nothing next to it."""
    recording.alloc(16)
    recording.alloc(18, 1)
    recording.alloc(20)
    recording.alloc(15)
    recording.free(16, pid=3)
    recording.free(16, 2, pid=4)
    assert recording.blocks() == [(15, 0, None), (16, 0, 3), (18, 1, 4), (20, 0, None)]
    assert recording.counters() == {}


@pytest.mark.parametrize("free", [(16, 0), (18, 1), (18, 0), (16, 3), (24, 0)])
def test_untracked_frees(recording: Recording, free: tuple[int, int]) -> None:
    """A free of pages that are not known as allocated changes nothing."""
    recording.alloc(16)
    recording.alloc(18, 1)
    recording.free(16, pid=3)
    recording.free(18, 1, pid=3)
    before = recording.blocks()
    recording.free(*free)
    assert recording.blocks() == before
    assert recording.counters() == {"free_untracked": 1}


def test_reuse_of_freed_pages(recording: Recording) -> None:
    """The other pages of a freed block stay known as freed."""
    recording.alloc(16, 3)
    recording.free(16, 3)
    recording.alloc(22, 1)
    recording.alloc(8, 3)
    assert recording.blocks() == [
        (8, 3, None),
        (16, 1, 2),
        (18, 1, 2),
        (20, 1, 2),
        (22, 1, None),
    ]
    recording.alloc(16, 2)
    assert recording.blocks() == [(8, 3, None), (16, 2, None), (20, 1, 2), (22, 1, None)]
    assert recording.counters() == {}


def test_against_a_model(recording: Recording) -> None:
    """Random events in one area match a table of pages, page by page."""
    rng = random.Random(1)
    # Page -> pid, and the first page and order of its block.
    owner: dict[int, tuple[int, int, int]] = {}
    untracked = 0
    for number in range(1, 3000):
        order = rng.choice((0, 0, 0, 1, 2, 4))
        pfn = rng.randrange(0, 128 >> order) << order
        span = range(pfn, pfn + (1 << order))
        hit = {owner[page] for page in span if page in owner}
        if rng.random() < 0.5:
            recording.alloc(pfn, order, pid=number)
            owner = {page: block for page, block in owner.items() if block not in hit}
            owner.update(dict.fromkeys(span, (number, pfn, order)))
        else:
            recording.free(pfn, order)
            untracked += not hit
            for page, (pid, _, size) in list(owner.items()):
                if page in span:
                    del owner[page]
                elif owner[page] in hit and size > order:
                    owner[page] = (pid, page >> order << order, order)
    replayed = recording.replay()
    live = {
        page.pfn + i: (page.pid, page.pfn, page.order)
        for page in replayed.pages
        if not page.freed
        for i in range(1 << page.order)
    }
    assert live == owner
    assert len(live) > 30
    assert replayed.stats["free_untracked"] == untracked
    recording.blocks()


@pytest.mark.parametrize(
    "pack",
    [pytest.param(gzip.compress, id="gzip"), pytest.param(lzma.compress, id="xz"), bytes],
)
def test_packed(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """Compressed text gives the same; progress is that of the file."""
    path = tmp_path / "trace"
    path.write_bytes(pack(TRACE_SAMPLE.read_bytes()))
    progress: list[tuple[int, int | None, int]] = []
    replayed = replay(str(path), progress=lambda *args: progress.append(args))
    assert replayed == replay(str(TRACE_SAMPLE))
    assert progress == sorted(progress)
    size, stats = path.stat().st_size, replayed.stats
    assert progress[-1] == (size, size, stats["alloc_events"] + stats["free_events"])


def test_errors_name_the_file(tmp_path: Path) -> None:
    """A missing file, or one that is not a trace, is named in the error."""
    for path, reason in ((tmp_path / "no", "No such file"), (tmp_path / "text", "not a recorded")):
        (tmp_path / "text").write_bytes(b"something else\n")
        with pytest.raises(PageOwnerError, match=reason) as error:
            replay(str(path))
        assert str(error.value).startswith(f"{path}: ")


@pytest.mark.slow
def test_cut_anywhere(tmp_path: Path) -> None:
    """A truncated real trace gives no other error, growing counters, and no damage."""
    text = TRACE_SAMPLE.read_bytes()
    path = tmp_path / "trace"
    nr_events = 0
    for nr_bytes in sorted({*range(0, len(text), 211), *range(20_000, 20_900), len(text)}):
        path.write_bytes(text[:nr_bytes])
        try:
            stats = replay(str(path)).stats
        except PageOwnerError:
            assert nr_bytes < 20
            continue
        total = stats["alloc_events"] + stats["free_events"] + stats["other_events"]
        # An event with a truncated stack is left out until the stack is complete.
        assert nr_events - 1 <= total
        nr_events = max(nr_events, total)
        assert stats["cut_events"] == (text[nr_bytes - 1] != 0x0A)
        assert not any(stats[name] for name in ("damaged_lines", "lost_events", "implied_frees"))
    assert nr_events == 54 + 27 + 24


def test_oracle() -> None:
    """The complete trace of a real kernel gives the 540 pages that its page_owner showed."""
    replayed = replay(str(TRACE))
    pages = {p.pfn: brief(p) for p in replayed.pages}
    assert pages == expected_pages(kernel_file(TRACE.stem).decode())
    traced = [p for p in replayed.pages if p.pid == TRACED_PID and not p.freed]
    assert len(traced) == 540
    assert {(p.order, p.comm) for p in traced} == {(0, b"tracedproc")}
    assert Counter(p.gfp_mask for p in traced) == {
        0x140DCA: 522,  # its own pages
        0x440DC0: 10,  # and page tables
        0x140CCA: 6,
        0x400DC0: 2,
    }
    assert replayed.stats["free_untracked"] == 6
    assert all(p.stack.startswith(b" __alloc_pages_noprof\n") for p in replayed.pages)
