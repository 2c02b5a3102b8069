"""The renderer over a table of the kernel source: early records, asking for flags, `on`."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import random
import re
import shutil
import struct
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from pageownerfs import Pool, _native
from pageownerfs.mm import page_ext
from pageownerfs.mm.page_ext import (
    PAGE_EXT_OWNER_ALLOCATED,
    PAGE_EXT_OWNER_EARLY,
    PAGE_EXT_OWNER_FREED,
    PAGE_OWNER_LAYOUT,
    PageOwner,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NATIVE: Final = Path(page_ext.__file__).resolve().parent.parent / "native"
OWNER_BYTES: Final = 64
BLOCK_ORDER: Final = 9
BATCH: Final = 1024
SCAN_BYTES: Final = 8 + BATCH * 8 + BATCH * 24
INFO_OFFSET: Final = 8 + BATCH * 8
STATE: Final = PAGE_OWNER_LAYOUT["state"]
EARLY_STATE: Final = PAGE_EXT_OWNER_ALLOCATED | PAGE_EXT_OWNER_EARLY
WORDS: Final = {
    _native.TEXT_GFP: b"%#x(GFP)",
    _native.TEXT_FLAGS: b"%#x(flags)",
    _native.TEXT_STACK: b" f%d+0x1/0x2\n g+0x0/0x1 [mod]\n",
    _native.TEXT_MIGRATE_REASON: b"reason %d",
    _native.TEXT_MIGRATETYPE: b"Type%d",
    _native.TEXT_MEMCG: b"Charged to memcg %d\n",
}

PLAIN: Final = PageOwner(
    ts_nsec=1000,
    free_ts_nsec=0,
    gfp_mask=0xCC8,
    pid=7,
    tgid=6,
    handle=5,
    free_handle=0,
    free_pid=0,
    free_tgid=0,
    order=0,
    last_migrate_reason=-1,
    state=PAGE_EXT_OWNER_ALLOCATED,
    pageblock_migratetype=1,
    comm=b"plain",
)
FREE: Final = PLAIN._replace(state=PAGE_EXT_OWNER_FREED)
EARLY: Final = PLAIN._replace(
    ts_nsec=44, gfp_mask=0, pid=1, tgid=1, handle=30, state=EARLY_STATE, comm=b"swapper/0"
)
# All that an allocation long ago may have left in the record of an early page, and more.
GARBAGE: Final = PageOwner(
    2**64 - 1, 3, 0xFFFFFFFF, -9, -8, 0, 6, 7, 8, 250, 5, EARLY_STATE, 1, b"garbage"
)


class Info(NamedTuple):
    """What is known of a page beside its record."""

    flags: int
    memcg: int
    pageblock_migratetype: int


def text(kind: int, value: int) -> bytes:
    """Give any text, another one for each value."""
    return WORDS[kind] % value


def record_text(pfn: int, owner: PageOwner, info: Info) -> bytes:
    """Print a record."""
    head = b"Page allocated via order %d, mask %s, pid %d, tgid %d (%s), ts %d ns\n" % (
        owner.order,
        text(_native.TEXT_GFP, owner.gfp_mask),
        owner.pid,
        owner.tgid,
        owner.comm,
        owner.ts_nsec,
    )
    place = b"PFN %#x type %s Block %d type %s Flags %s\n" % (
        pfn,
        text(_native.TEXT_MIGRATETYPE, owner.gfp_mask >> 3 & 3),
        pfn >> BLOCK_ORDER,
        text(_native.TEXT_MIGRATETYPE, info.pageblock_migratetype),
        text(_native.TEXT_FLAGS, info.flags),
    )
    notes = b""
    if owner.last_migrate_reason >= 0:
        reason = text(_native.TEXT_MIGRATE_REASON, owner.last_migrate_reason)
        notes = b"Page has been migrated, last migrate reason: %s\n" % reason
    if info.memcg:
        notes += text(_native.TEXT_MEMCG, info.memcg)
    return head + place + text(_native.TEXT_STACK, owner.handle) + notes + b"\n"


def records_of(data: mmap.mmap | bytes, end_pfn: int) -> Iterator[tuple[int, PageOwner]]:
    """Yield the records that are to be printed."""
    pfn = 0
    while pfn < end_pfn:
        owner = PageOwner.unpack(data[pfn * OWNER_BYTES : (pfn + 1) * OWNER_BYTES])
        if owner.is_early:
            owner = EARLY._replace(state=owner.state)
        tail = pfn % (1 << owner.order % 64)
        if not owner.is_allocated or tail or not owner.handle:
            pfn += 1
            continue
        yield pfn, owner
        pfn += 1 << owner.order if owner.order <= _native.MAX_PAGE_ORDER else 1


def whole_text(
    data: mmap.mmap | bytes, end_pfn: int, info: Callable[[int], Info] | None = None
) -> bytes:
    """Print a table; info: of a PFN, or none where it can't be asked for."""
    found = records_of(data, end_pfn)
    return b"".join(
        record_text(pfn, owner, info(pfn) if info else Info(0, 0, owner.pageblock_migratetype))
        for pfn, owner in found
    )


def mapping(*runs: tuple[PageOwner, int]) -> mmap.mmap:
    """Give memory with the records, each so many times."""
    data = b"".join(owner.pack() * nr for owner, nr in runs)
    memory = mmap.mmap(-1, len(data))
    memory[:] = data
    return memory


def kernel_table(memory: mmap.mmap, end_pfn: int | None = None) -> _native.KernelTable:
    """Make a table over memory, without a program."""
    end_pfn = len(memory) // OWNER_BYTES if end_pfn is None else end_pfn
    scan = mmap.mmap(-1, SCAN_BYTES)
    return _native.KernelTable(memory, end_pfn, BLOCK_ORDER, EARLY.pack(), scan, -1)


def read_all(renderer: _native.Renderer, size: int = 128 << 10) -> bytes:
    """Read from the first byte to the end."""
    reader, parts, offset = renderer.reader(), [], 0
    while part := reader.read(size, offset):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


def random_records(seed: int, nr: int) -> bytes:
    """Records of all kinds, in no good order: what a reader may meet while pages change hands."""
    chance = random.Random(seed)
    states = (0, 1, 1, 1, 2, 3, 5, 5, 7, 9)
    out = bytearray()
    while len(out) < nr * OWNER_BYTES:
        state = chance.choice(states)
        owner = PLAIN if state & PAGE_EXT_OWNER_EARLY == 0 else GARBAGE
        owner = owner._replace(
            ts_nsec=chance.randrange(2**63),
            gfp_mask=chance.choice((0xCC8, 0x140CCA)),
            pid=chance.randrange(-5, 100),
            handle=chance.choice((0, 1, 1, 2, 3)),
            order=chance.choice((0, 0, 0, 1, 3, 9, 10)),
            last_migrate_reason=chance.choice((-1, -1, 0, 3)),
            state=state,
            pageblock_migratetype=EARLY.pageblock_migratetype,
            comm=chance.choice((b"", b"a", b"fifteen bytes..")),
        )
        out += owner.pack() * chance.choice((1, 1, 1, 2, 8, 40))
    return bytes(out[: nr * OWNER_BYTES])


@pytest.mark.parametrize("seed", range(8))
def test_text(seed: int) -> None:
    """Whatever stands in the table, the text is that of its records, and size() its length."""
    data = random_records(seed, 3000)
    memory = mmap.mmap(-1, len(data))
    memory[:] = data
    renderer = _native.Renderer(kernel_table(memory), text)
    expected = whole_text(data, 3000)
    assert read_all(renderer) == expected
    assert renderer.size() == len(expected)
    assert b"".join(one_by_one(renderer)) == expected


def one_by_one(renderer: _native.Renderer) -> Iterator[bytes]:
    """Yield the records that record() finds."""
    pfn = 0
    while found := renderer.record(pfn):
        record, pfn = found
        yield record


@pytest.mark.parametrize("size", [1, 63, 1000, 4096, 4097, 20000])
def test_steps(size: int) -> None:
    """Reads of any size, one after the other, give the same text."""
    memory = mapping((FREE, 20), (GARBAGE, 300), (PLAIN, 100), (FREE, 700), (PLAIN, 3), (FREE, 5))
    expected = whole_text(memory, len(memory) // OWNER_BYTES)
    assert read_all(_native.Renderer(kernel_table(memory), text), size) == expected


def test_seeks() -> None:
    """Reads anywhere give what stands there in the whole text."""
    data = random_records(1, 20000)
    memory = mmap.mmap(-1, len(data))
    memory[:] = data
    expected = whole_text(data, 20000)
    reader = _native.Renderer(kernel_table(memory), text).reader()
    chance = random.Random(2)
    for _ in range(300):
        offset = chance.randrange(len(expected) + 1000)
        size = chance.choice((1, 100, 4096, 70000))
        assert reader.read(size, offset) == expected[offset : offset + size]


def test_early() -> None:
    """An early record is the one for all, at each page, whatever stands in its bytes."""
    random_bytes = bytearray(random.Random(3).randbytes(OWNER_BYTES))
    random_bytes[STATE] = EARLY_STATE | PAGE_EXT_OWNER_FREED
    memory = mapping((GARBAGE, 63), (PLAIN._replace(order=9, state=EARLY_STATE), 2), (PLAIN, 63))
    memory[: len(random_bytes)] = bytes(random_bytes)
    expected = b"".join(record_text(pfn, EARLY, Info(0, 0, 1)) for pfn in range(65))
    expected += b"".join(record_text(pfn, PLAIN, Info(0, 0, 1)) for pfn in range(65, 128))
    renderer = _native.Renderer(kernel_table(memory), text)
    assert read_all(renderer) == expected
    found = renderer.record(1)
    assert found == (record_text(1, EARLY, Info(0, 0, 1)), 2)


def test_early_without_stack() -> None:
    """Early pages aren't shown where the early stack is none: as all without one."""
    memory = mapping((GARBAGE, 63), (PLAIN, 1))
    scan = mmap.mmap(-1, SCAN_BYTES)
    early = EARLY._replace(handle=0).pack()
    table = _native.KernelTable(memory, 64, BLOCK_ORDER, early, scan, -1)
    expected = record_text(63, PLAIN, Info(0, 0, 1))
    assert read_all(_native.Renderer(table, text)) == expected


@pytest.mark.parametrize("order", [0, 1, 9, 10, 11, 18])
def test_orders(order: int) -> None:
    """A block is one record, at its head; pages that were no head of it aren't shown."""
    nr = 1 << order
    owner = PLAIN._replace(order=order)
    memory = mapping((owner, 2 * nr), (FREE, 1), (owner, 1), (PLAIN, 62))
    shown = [(0, owner), (nr, owner)]
    if order == 0:
        shown.append((3, owner))
    shown += [(2 * nr + 2 + i, PLAIN) for i in range(62)]
    expected = b"".join(record_text(pfn, found, Info(0, 0, 1)) for pfn, found in shown)
    table = kernel_table(memory)
    assert read_all(_native.Renderer(table, text)) == expected
    assert table.states() == {
        "allocated": 2 * nr + 63,
        "early": 0,
        "freed": 1,
        "heads": len(shown),
    }


@pytest.mark.parametrize("nr_free", [0, 1, 7, 8, 9, 15, 16, 17, 100])
def test_free_runs(nr_free: int) -> None:
    """Runs of free pages of any length hide nothing before, between and behind them."""
    runs = ((FREE, nr_free), (PLAIN, 1), (FREE, nr_free), (GARBAGE, 1), (FREE, nr_free))
    memory = mapping(*runs, (PLAIN, 1), (FREE, nr_free))
    end_pfn = 4 * nr_free + 3
    expected = whole_text(memory, end_pfn)
    assert expected.count(b"PFN") == 3
    assert read_all(_native.Renderer(kernel_table(memory), text)) == expected
    # not a page beyond the end
    shorter = kernel_table(memory, end_pfn - nr_free - 1)
    assert read_all(_native.Renderer(shorter, text)) == whole_text(memory, shorter.end_pfn)


def test_on() -> None:
    """Switched off, the table is empty for all who read it; and back again."""
    memory = mapping((PLAIN, 64))
    table = kernel_table(memory)
    renderer = _native.Renderer(table, text)
    reader = renderer.reader()
    assert table.on is True
    expected = whole_text(memory, 64)
    assert renderer.size() == len(expected)
    table.on = False
    assert table.on is False
    assert renderer.size() == 0
    assert reader.read(4096, 0) == b""
    assert renderer.record(0) is None
    assert set(table.states().values()) == {0}
    table.on = True
    assert read_all(renderer) == expected
    assert renderer.size() == len(expected)
    with pytest.raises(AttributeError):
        del table.on


def test_size_is_kept_for_a_second() -> None:
    """size() is that of the text up to a second ago."""
    memory = mapping((PLAIN, 64))
    renderer = _native.Renderer(kernel_table(memory), text)
    size = renderer.size()
    memory[STATE] = PAGE_EXT_OWNER_FREED
    assert renderer.size() == size
    time.sleep(1.05)
    assert renderer.size() == size - len(record_text(0, PLAIN, Info(0, 0, 1)))


@pytest.mark.parametrize("seed", range(3))
def test_states(seed: int) -> None:
    """states() counts base pages, and heads of those whose allocation was seen."""
    data = random_records(seed, 5000)
    memory = mmap.mmap(-1, len(data))
    memory[:] = data
    owners = [
        PageOwner.unpack(data[i : i + OWNER_BYTES]) for i in range(0, len(data), OWNER_BYTES)
    ]
    seen = [pfn for pfn, o in enumerate(owners) if o.is_allocated and not o.is_early]
    assert kernel_table(memory).states() == {
        "allocated": len(seen),
        "early": sum(o.is_allocated and o.is_early for o in owners),
        "freed": sum(o.is_freed and not o.is_allocated for o in owners),
        "heads": sum(pfn % owners[pfn].nr_pages == 0 for pfn in seen),
    }


@pytest.mark.require("shm")
def test_states_of_a_pool(tmp_path: Path) -> None:
    """The table of a pool counts as well."""
    path = f"/dev/shm/pageownerfs-test-{os.getpid()}-{tmp_path.name}"
    with Pool.create(path, 32 << 20, 0, 0, 16, 1 << 20) as pool:
        os.unlink(path)  # noqa: PTH108
        early = sum(pool.enable_page_owner(pool.capture_stack, pool.capture_stack))
        page = pool.alloc_pages(3)
        other = pool.alloc_pages(2)
        pool.free_pages(other)
        states = pool.table().states()
        assert states == {"allocated": 8, "early": early, "freed": 4, "heads": 1}
        pool.free_pages(page)


def test_buffers_are_held() -> None:
    """A mapping can't be closed while a table or a reader of it is there."""
    memory, scan = mapping((PLAIN, 64)), mmap.mmap(-1, SCAN_BYTES)
    table = _native.KernelTable(memory, 64, BLOCK_ORDER, EARLY.pack(), scan, -1)
    reader = _native.Renderer(table, text).reader()
    del table
    for held in (memory, scan):
        with pytest.raises(BufferError):
            held.close()
    assert reader.read(1 << 20, 0) == whole_text(memory, 64)
    del reader
    memory.close()
    scan.close()


def test_wrong_arguments() -> None:
    """Buffers of a wrong size, and numbers that can't be, are refused."""
    memory, scan, early = mapping((PLAIN, 64)), mmap.mmap(-1, SCAN_BYTES), EARLY.pack()
    new = _native.KernelTable
    with pytest.raises(ValueError, match="page_ext has 4096 bytes"):
        new(memory, 65, BLOCK_ORDER, early, scan, -1)
    with pytest.raises(ValueError, match="scan has 4096 bytes"):
        new(memory, 64, BLOCK_ORDER, early, memory, -1)
    with pytest.raises(ValueError, match="page_ext has 4092 bytes"):
        new(memoryview(memory)[4:], 63, BLOCK_ORDER, early, scan, -1)
    for wrong in (b"", early[:63], early + b"\0"):
        with pytest.raises(ValueError, match=f"early has {len(wrong)} bytes: must be 64"):
            new(memory, 64, BLOCK_ORDER, wrong, scan, -1)
    for order in (-1, 64):
        with pytest.raises(ValueError, match="pageblock_order"):
            new(memory, 64, order, early, scan, -1)
    for end_pfn in (-1, 2**58, 2**64 - 1, 2**64):
        with pytest.raises(ValueError, match=r"page_ext has|must be|more than"):
            new(memory, end_pfn, BLOCK_ORDER, early, scan, -1)
    with pytest.raises(OSError, match="Bad file descriptor"):
        new(memory, 64, BLOCK_ORDER, early, scan, 2**31 - 1)
    with pytest.raises(BufferError):
        new(memory, 64, BLOCK_ORDER, early, bytes(SCAN_BYTES), 0)
    with pytest.raises(TypeError):
        new(memory, 64, BLOCK_ORDER, early, None, -1)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        new(memory, 64, BLOCK_ORDER, "early", scan, -1)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        new(memory, "64", BLOCK_ORDER, early, scan, -1)  # type: ignore[arg-type]
    # nothing is held by what has failed
    memory.close()
    scan.close()


def test_readonly_memory() -> None:
    """A table is read only: what can't be written will do."""
    data = random_records(4, 640)
    scan = bytes(SCAN_BYTES)
    table = _native.KernelTable(data, 640, BLOCK_ORDER, EARLY.pack(), scan, -1)
    assert (table.start_pfn, table.end_pfn) == (0, 640)
    assert read_all(_native.Renderer(table, text)) == whole_text(data, 640)


# ---- pages change hands while they are read ----

NR_PAIRS: Final = 64
READ_SECONDS: Final = 2.0
NR_WRITERS: Final = 2
NR_KINDS: Final = 4
# Writes the records of two pages as the BPF programs do, until killed; each has its kind's number
# all over. The kind that follows the last one is early.
CHANGE_HANDS: Final = r"""
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "page_owner.h"

#define STORE(type, field, value) \
	atomic_store_explicit((_Atomic type *)&(field), (value), memory_order_release)

int main(int argc, char **argv)
{
	int fd = argc == 3 ? open(argv[1], O_RDWR) : -1;
	struct page_owner *pair = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (pair == MAP_FAILED)
		return 1;
	pair += 2 * atoi(argv[2]);
	for (u64 ts = 1;; ts++) {
		u32 number = 100 + ts % 5;

		for (struct page_owner *owner = pair; owner < pair + 2; owner++)
			STORE(u8, owner->state, PAGE_EXT_OWNER_FREED);
		for (struct page_owner *owner = pair; owner < pair + 2; owner++) {
			u32 *word = (u32 *)&owner->order, old = *word;

			if (number == 104) {
				atomic_compare_exchange_strong((_Atomic u32 *)word, &old, old | 5u << 16);
				continue;
			}
			STORE(u64, owner->ts_nsec, ts);
			owner->gfp_mask = owner->handle = number;
			owner->pid = owner->tgid = number;
			owner->order = number & 1;
			memset(owner->comm, number, 15);
			STORE(u8, owner->state, PAGE_EXT_OWNER_ALLOCATED);
		}
	}
}
"""


@pytest.fixture
def changing(tmp_path: Path) -> Iterator[mmap.mmap]:
    """Give a table of which two processes change records all the time."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not (NATIVE / "page_owner.h").is_file():
        pytest.skip("There is no C compiler here, or no page_owner.h beside the package.")
    source, command = tmp_path / "change_hands.c", tmp_path / "change_hands"
    source.write_text(CHANGE_HANDS)
    subprocess.run([compiler, "-O2", "-I", NATIVE, "-o", command, source], check=True)
    path = tmp_path / "table"
    path.write_bytes(FREE.pack() * 64)
    with path.open("r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    writers = [subprocess.Popen([command, path, str(number)]) for number in range(NR_WRITERS)]
    try:
        yield memory
        assert [writer.poll() for writer in writers] == [None] * NR_WRITERS
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()


def test_no_torn_record(changing: mmap.mmap) -> None:
    """While processes change records, each one that is read is of one allocation."""
    kinds = [record_text(0, EARLY, Info(0, 0, 1))]
    for number in range(100, 100 + NR_KINDS):
        owner = PLAIN._replace(gfp_mask=number, handle=number, pid=number, tgid=number)
        owner = owner._replace(order=number & 1, comm=b"%c" % number * 15)
        kinds.append(record_text(0, owner, Info(0, 0, 1)))
    patterns = []
    for kind in kinds:
        one = re.escape(kind).replace(re.escape(b"PFN 0x0 "), rb"PFN 0x[0-3] ")
        one = one.replace(re.escape(b"ts 1000 ns"), rb"ts [0-9]+ ns")
        patterns.append(re.compile(one))
    table = kernel_table(changing, 2 * NR_WRITERS)
    renderer = _native.Renderer(table, text)
    seen = [0] * len(patterns)
    until = time.monotonic() + READ_SECONDS
    while time.monotonic() < until:
        rest = b"".join(read_all(renderer) for _ in range(1000))
        for number, pattern in enumerate(patterns):
            rest, nr_found = pattern.subn(b"", rest)
            seen[number] += nr_found
        assert rest == b""
        table.states()
    assert min(seen) > 0


# ---- with a program: one that says of a PFN what fake_info() does ----


def fake_info(pfn: int) -> Info:
    """Give what the program below says."""
    return Info(pfn << 4, pfn & 7, pfn & 3)


def instruction(code: int, dst: int = 0, src: int = 0, offset: int = 0, number: int = 0) -> bytes:
    """Assemble one."""
    return struct.pack("<BBhi", code, dst | src << 4, offset, number)


def scan_program(map_fd: int) -> bytes:
    """Fill in fake_info(); the word behind nr counts how often."""
    value, nr, i, index, place, pfn, info = 6, 7, 1, 2, 3, 4, 5
    return b"".join(
        (
            instruction(0x18, value, 2, 0, map_fd),  # value = the map's
            instruction(0),
            instruction(0x61, nr, value),
            instruction(0x61, info, value, 4),
            instruction(0x07, info, number=1),
            instruction(0x63, value, info, 4),
            instruction(0xB7, i),
            instruction(0x3D, i, nr, 19),  # to the end
            instruction(0x35, i, 0, 18, BATCH),
            instruction(0xBF, index, i),
            instruction(0x67, index, number=3),
            instruction(0xBF, place, value),
            instruction(0x0F, place, index),
            instruction(0x79, pfn, place, 8),
            instruction(0xBF, index, i),
            instruction(0x27, index, number=24),
            instruction(0xBF, place, value),
            instruction(0x0F, place, index),
            instruction(0xBF, info, pfn),
            instruction(0x67, info, number=4),
            instruction(0x7B, place, info, INFO_OFFSET),
            instruction(0x57, pfn, number=7),
            instruction(0x7B, place, pfn, INFO_OFFSET + 8),
            instruction(0x57, pfn, number=3),
            instruction(0x73, place, pfn, INFO_OFFSET + 16),
            instruction(0x07, i, number=1),
            instruction(0x05, offset=-20),
            instruction(0xB7, 0),
            instruction(0x95),
        )
    )


def bpf(command: int, attributes: bytes) -> int:
    """bpf(2), x86-64 and arm64 alike: a descriptor, or OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = {"x86_64": 321, "aarch64": 280}.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, "the number of bpf(2) is not known here")
    padded = attributes.ljust(128, b"\0")
    fd: int = libc.syscall(number, command, padded, len(padded))
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return fd


class Program(NamedTuple):
    """A program that is asked for flags."""

    fd: int
    scan: mmap.mmap

    @property
    def asked(self) -> int:
        """How often it has run."""
        return int.from_bytes(self.scan[4:8], "little")

    @property
    def nr(self) -> int:
        """How many pages the last question was about."""
        return int.from_bytes(self.scan[:4], "little")


@pytest.fixture
def program() -> Iterator[Program]:
    """Load scan_program(), where that is permitted."""
    with contextlib.ExitStack() as stack:
        try:
            array, mmapable = 2, 1 << 10
            map_fd = bpf(0, struct.pack("<5I", array, 4, SCAN_BYTES, 1, mmapable))
            stack.callback(os.close, map_fd)
            code = ctypes.create_string_buffer(scan_program(map_fd))
            licence = ctypes.create_string_buffer(b"GPL")
            syscall, sleepable = 31, 1 << 4
            attributes = struct.pack(
                "<IIQQIIQII",
                syscall,
                len(code) // 8,
                ctypes.addressof(code),
                ctypes.addressof(licence),
                0,
                0,
                0,
                0,
                sleepable,
            )
            fd = bpf(5, attributes)
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.EACCES, errno.ENOSYS}:
                raise
            pytest.skip(f"bpf(2) is not permitted or not there: {error}.")
        stack.callback(os.close, fd)
        scan = mmap.mmap(map_fd, (SCAN_BYTES + 4095) & -4096)
        yield Program(fd, scan)


def asking_table(memory: mmap.mmap, program: Program) -> _native.KernelTable:
    """Make a table over memory whose flags the program says."""
    end_pfn = len(memory) // OWNER_BYTES
    return _native.KernelTable(
        memory, end_pfn, BLOCK_ORDER, EARLY.pack(), program.scan, program.fd
    )


@pytest.mark.parametrize("size", [512, 4096, 20000, 128 << 10, 260000, 4 << 20])
def test_asking(program: Program, size: int) -> None:
    """Flags, memcg and block type are those that the program says, whatever is read at a time."""
    data = random_records(5, 40000)
    memory = mmap.mmap(-1, len(data))
    memory[:] = data
    renderer = _native.Renderer(asking_table(memory, program), text)
    assert read_all(renderer, size) == whole_text(data, 40000, fake_info)


def test_asking_for_size_and_records(program: Program) -> None:
    """size() asks for full batches, record() for one page."""
    memory = mapping((GARBAGE, 2 * BATCH), (PLAIN._replace(order=3), 8 * BATCH))
    expected = whole_text(memory, 10 * BATCH, fake_info)
    table = asking_table(memory, program)
    renderer = _native.Renderer(table, text)
    read_all(renderer)  # every text is known now
    before = program.asked
    assert renderer.size() == len(expected)
    assert program.asked - before == 3
    assert program.nr == BATCH
    assert b"".join(one_by_one(renderer)) == expected
    assert program.nr == 1


def test_asking_with_seeks(program: Program) -> None:
    """Back and forth, the batch of before serves no wrong page."""
    data = random_records(6, 20000)
    memory = mmap.mmap(-1, len(data))
    memory[:] = data
    expected = whole_text(data, 20000, fake_info)
    reader = _native.Renderer(asking_table(memory, program), text).reader()
    chance = random.Random(7)
    for _ in range(300):
        offset = chance.randrange(len(expected) + 1000)
        size = chance.choice((1, 100, 4096, 70000))
        assert reader.read(size, offset) == expected[offset : offset + size]


def test_asking_together(program: Program) -> None:
    """Readers ask one after the other, and get no answer to another one's question."""
    data = random_records(8, 40000)
    memory = mmap.mmap(-1, len(data))
    memory[:] = data
    renderer = _native.Renderer(asking_table(memory, program), text)
    expected = read_all(renderer)
    assert expected == whole_text(data, 40000, fake_info)
    sizes = [20000, 30000, 40000, 50000] * 10
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda size: read_all(renderer, size) == expected, sizes))


def test_how_much_is_asked(program: Program) -> None:
    """A small read asks for few pages; those that follow it use them, for 100 ms."""
    memory = mapping((PLAIN, 64 * BATCH))
    renderer = _native.Renderer(asking_table(memory, program), text)
    read_all(renderer)
    reader, before = renderer.reader(), program.asked
    offset = len(reader.read(4096, 0))
    assert program.asked - before == 1
    nr = program.nr
    assert 8 <= nr <= 64
    started = time.monotonic()
    for _ in range(nr - 1):
        offset += len(reader.read(4096, offset))
    if time.monotonic() - started < 0.09:
        assert program.asked - before == 1
    offset += len(reader.read(4096, offset))
    assert program.asked - before == 2
    time.sleep(0.15)
    reader.read(4096, offset)
    assert program.asked - before == 3

    before = program.asked
    read_all(renderer, 1 << 20)
    assert program.nr <= BATCH
    assert program.asked - before < 64 * 2


def test_allocated_meanwhile(program: Program) -> None:
    """A page that wasn't there when the batch was asked for is asked for when it is met."""
    memory = mapping((PLAIN, 3), (FREE, 3), (PLAIN, 58))
    renderer = _native.Renderer(asking_table(memory, program), text)
    read_all(renderer)
    reader = renderer.reader()
    out = reader.read(4096, 0)
    memory[4 * OWNER_BYTES + STATE] = PAGE_EXT_OWNER_ALLOCATED
    memory[6 * OWNER_BYTES + STATE] = PAGE_EXT_OWNER_FREED
    while part := reader.read(4096, len(out)):
        out += part
    assert out == whole_text(memory, 64, fake_info)


def test_program_is_held(program: Program) -> None:
    """The table has a descriptor of its own; one that is no program leaves the flags unknown."""
    memory = mapping((PLAIN, 64))
    own = os.dup(program.fd)
    table = asking_table(memory, program._replace(fd=own))
    os.close(own)
    assert read_all(_native.Renderer(table, text)) == whole_text(memory, 64, fake_info)
    with open(os.devnull, "rb") as other:  # noqa: PTH123
        table = asking_table(memory, program._replace(fd=other.fileno()))
        assert read_all(_native.Renderer(table, text)) == whole_text(memory, 64)
