"""Asking a BPF program for what a kernel table lacks: flags, cgroups, block types."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import random
import re
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import pytest
from kernel_tables import (
    BATCH,
    BLOCK_ORDER,
    EARLY,
    FREE,
    GARBAGE,
    INFO_OFFSET,
    OWNER_BYTES,
    PLAIN,
    SCAN_BYTES,
    STATE,
    Info,
    kernel_table,
    mapping,
    one_by_one,
    random_records,
    read_all,
    text,
    whole_text,
)

from pageownerfs import _native
from pageownerfs.mm.flags import FlagName
from pageownerfs.mm.page_ext import (
    PAGE_EXT_OWNER_ALLOCATED,
    PAGE_EXT_OWNER_FREED,
)
from pageownerfs.mm.page_flags import (
    PageFlagsField,
    decode_page_flags,
    format_page_flags,
    page_flags_mask,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


def fake_info(pfn: int) -> Info:
    """Return what the program below returns."""
    return Info(pfn << 4, pfn & 7, pfn & 3)


def instruction(code: int, dst: int = 0, src: int = 0, offset: int = 0, number: int = 0) -> bytes:
    """Assemble one instruction."""
    return struct.pack("<BBhi", code, dst | src << 4, offset, number)


def scan_program(map_fd: int) -> bytes:
    """Assemble a program that fills in fake_info(); the word after nr counts the calls."""
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
    """Call bpf(2), the same on x86-64 and arm64; return a descriptor or raise OSError."""
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
        """Return how often it has run."""
        return int.from_bytes(self.scan[4:8], "little")

    @property
    def nr(self) -> int:
        """Return how many pages the last query was about."""
        return int.from_bytes(self.scan[:4], "little")


@pytest.fixture
def program() -> Iterator[Program]:
    """Load scan_program() if that is permitted."""
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
            pytest.skip(f"needs bpf(2): {error}")
        stack.callback(os.close, fd)
        scan = mmap.mmap(map_fd, (SCAN_BYTES + 4095) & -4096)
        yield Program(fd, scan)


def asking_table(memory: mmap.mmap, program: Program) -> _native.KernelTable:
    """Make a table over memory whose flags come from the program."""
    end_pfn = len(memory) // OWNER_BYTES
    return _native.KernelTable(
        memory, end_pfn, BLOCK_ORDER, EARLY.pack(), program.scan, program.fd
    )


@pytest.mark.parametrize("size", [512, 4096, 20000, 128 << 10, 260000, 4 << 20])
def test_asking(program: Program, size: int) -> None:
    """Flags, memcg and block type are the program's, whatever the size of reads."""
    data = random_records(5, 40000)
    memory = mmap.mmap(-1, len(data))
    memory[:] = data
    renderer = _native.Renderer(asking_table(memory, program), text)
    assert read_all(renderer, size) == whole_text(data, 40000, fake_info)


def test_flags_from_parts(program: Program) -> None:
    """If a field of the flags may have any value, only their names are asked for, once each."""
    memory = mapping((PLAIN, 60_000))
    fields = (
        PageFlagsField("node", 20, 2, 10),
        PageFlagsField("zone", 16, 3, 10),
        PageFlagsField("lastcpupid", 8, 12, 16),
    )
    names = (FlagName(1 << 6, "head"), FlagName(1 << 4, "dirty"))
    asked: list[int] = []

    def name(kind: int, value: int) -> bytes:
        if kind != _native.TEXT_FLAGS:
            return text(kind, value)
        asked.append(value)
        return decode_page_flags(value, names).encode()

    renderer = _native.Renderer(
        asking_table(memory, program),
        name,
        flags_mask=page_flags_mask(names),
        flags_fields=fields,
    )
    shown = re.findall(rb" Flags (.*)\n", read_all(renderer))
    flags = [fake_info(pfn).flags for pfn in range(60_000)]
    assert shown == [format_page_flags(word, fields, names).encode() for word in flags]
    assert renderer.size() == len(read_all(renderer))
    assert sorted(asked) == [0, 1 << 4, 1 << 5, 3 << 4, 1 << 6, 5 << 4, 6 << 4, 7 << 4]


@pytest.mark.parametrize(
    "field",
    [("x", 60, 5, 10), ("x", -1, 2, 10), ("x", 0, 0, 10), ("x", 0, 1, 8), ("x" * 32, 0, 1, 10)],
)
def test_bad_field(field: tuple[str, int, int, int]) -> None:
    """A field that fits into no flags word is an error, and so are too many fields."""
    table = kernel_table(mapping((PLAIN, 1)))
    with pytest.raises(ValueError, match="not a field of 64 bits"):
        _native.Renderer(table, text, flags_fields=[field])
    with pytest.raises(ValueError, match="at most 8 fields"):
        _native.Renderer(table, text, flags_fields=[("x", 0, 1, 10)] * 9)


def test_asking_for_size_and_records(program: Program) -> None:
    """size() asks for full batches, and record() for one page."""
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
    """When a reader seeks back and forth, an older batch serves no wrong page."""
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
    """Readers ask one after the other, and none gets another's answer."""
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
    """A small read asks for few pages, and reads within 100 ms use them."""
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
    used = program.asked - before
    offset += len(reader.read(4096, offset))
    if time.monotonic() - started < 0.09:  # skip this if the machine was busy
        assert (used, program.asked - before) == (1, 2)
    asked = program.asked
    time.sleep(0.15)
    reader.read(4096, offset)
    assert program.asked - asked == 1

    before = program.asked
    read_all(renderer, 1 << 20)
    assert program.nr <= BATCH
    assert program.asked - before < 64 * 2


def test_allocated_meanwhile(program: Program) -> None:
    """A page that was allocated after its batch was queried is queried when it is met."""
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
    """The table has its own descriptor; without a program the flags are unknown."""
    memory = mapping((PLAIN, 64))
    own = os.dup(program.fd)
    table = asking_table(memory, program._replace(fd=own))
    os.close(own)
    assert read_all(_native.Renderer(table, text)) == whole_text(memory, 64, fake_info)
    with open(os.devnull, "rb") as other:  # noqa: PTH123
        table = asking_table(memory, program._replace(fd=other.fileno()))
        assert read_all(_native.Renderer(table, text)) == whole_text(memory, 64)
