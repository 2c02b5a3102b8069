"""In damaged dumps, and in text that is not a dump, every complete record counts.

A stretch of damage continues to the next empty line or the next start of a record.
"""

from __future__ import annotations

import os
import random
import re
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from dumps import AWKWARD_COMMS, HOSTILE_COMMS, V6_1, V6_12, Task, make_dump
from hypothesis import given, settings
from hypothesis import strategies as st
from sort_runs import run_ours

from pageownerfs.page_owner_sort import (
    MODULE,
    NAME,
    STACKTRACE,
    TXT,
    Damage,
    Group,
    Groups,
    Rules,
    damage,
    group_file,
    group_records,
    new_groups,
    read_records,
)
from pageownerfs.page_owner_sort import groups as groups_module
from pageownerfs.page_owner_sort.keys import FREE_TS, SortKey
from pageownerfs.text import input as input_module

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dumps import Dump, Era

# Groups by everything that a record has, and by little.
RULES = (
    Rules(sort=(SortKey(FREE_TS),)),
    *(Rules(), Rules(cull=(STACKTRACE,)), Rules(cull=(NAME, MODULE))),
)
# Rules that need nothing that a text may lack.
FILE_RULES = (
    Rules(sort=()),
    Rules(sort=(SortKey(TXT, descending=True),)),
    Rules(cull=(STACKTRACE, MODULE)),
)
SPLICES = (
    b"\0",
    b"\n",
    b"\n\n",
    b"\r\n",
    b"\r",
    b" ",
    b")",
    b"Page allocated via order ",
    b"PFN 0x",
)


class Reading(NamedTuple):
    """Everything that was made from a text."""

    groups: list[tuple[Any, ...]]
    damage: list[Damage]
    counts: tuple[int, int, int, int]


def describe(group: Group) -> tuple[Any, ...]:
    """Return everything that a group shows."""
    ids = (group.pid, group.tgid, group.comm, group.ts_nsec, group.free_ts_nsec)
    rest = (group.order, group.mask, group.allocator, group.module, group.stacktrace, group.text)
    return (group.times, group.pages, *ids, *rest)


def reading(groups: Groups) -> Reading:
    """Return the contents of the groups."""
    counts = (groups.nr_records, groups.nr_damaged, groups.nr_bytes, groups.fields)
    return Reading([describe(group) for group in groups], damage(groups), counts)


def read_at_once(data: bytes, rules: Rules) -> Reading:
    """Feed everything at once."""
    groups = new_groups(rules)
    assert groups.feed(data, final=True) == len(data)
    return reading(groups)


def sorted_reading(data: bytes, rules: Rules) -> Reading:
    """Feed everything at once; return the groups in order."""
    groups = new_groups(rules)
    groups.feed(data, final=True)
    groups.sort([(item.key.field, item.descending) for item in rules.sort])
    return reading(groups)


def read_in_chunks(data: bytes, rules: Rules, rng: random.Random, largest: int) -> Reading:
    """Feed it in chunks, as it comes."""
    groups = new_groups(rules)
    rest = b""
    position = 0
    while position < len(data):
        size = rng.randrange(1, largest)
        rest += data[position : position + size]
        position += size
        rest = rest[groups.feed(rest) :]
    assert groups.feed(rest, final=True) == len(rest)
    return reading(groups)


def read_in_parts(data: bytes, rules: Rules, rng: random.Random) -> Reading:
    """Feed parts that begin with a record to separate groups, and merge those."""
    starts = [m.start() + 2 for m in re.finditer(rb"\n\n(?=Page allocated via order )", data)]
    chosen = sorted(rng.sample(starts, min(len(starts), rng.randint(1, 3))))
    whole: Groups | None = None
    for start, end in zip([0, *chosen], [*chosen, len(data)], strict=True):
        part = new_groups(rules)
        assert part.feed(data[start:end], final=True) == end - start
        if whole is None:
            whole = part
        else:
            whole.merge(part)
    assert whole is not None
    return reading(whole)


def edit(rng: random.Random, data: bytes) -> tuple[bytes, int, int]:
    """Damage a text in one place; return the new text and the damaged range of the old one."""
    start = rng.randrange(len(data) + 1)
    end = min(len(data), start + rng.choice((0, 1, 2, 10, 200, 2000)))
    other = rng.randrange(len(data) + 1)
    garbage = (
        b"",  # cut out
        rng.randbytes(end - start),  # overwritten
        rng.randbytes(rng.randrange(300)),
        data[other : other + rng.choice((1, 50, 1000))],  # duplicated
        data[other : other + end - start],  # spliced
        rng.choice(SPLICES) * rng.randint(1, 3),
        b"x" * rng.choice((10, 1000, 3900, 5000)),
        b"\0" * (end - start),
        bytes(rng.choices(data[start:end] or b" ", k=end - start)),  # shuffled
        bytes(byte ^ 1 << rng.randrange(8) for byte in data[start : start + 1]),  # one bit
    )
    return data[:start] + rng.choice(garbage) + data[end:], start, end


def some_dump(rng: random.Random) -> Dump:
    """Make a dump with at least a few records."""
    return make_dump(rng, hostile=rng.random() < 0.3, nr_records=rng.randint(2, 12))


# ---- complete records count ----


def records_read(path: Path) -> tuple[list[bytes], list[Damage]]:
    """Return the text of each record of a file, and the damage."""
    found: list[Damage] = []
    return [record.text for record in read_records(str(path), found.append)], found


@pytest.mark.parametrize("part", range(4))
def test_records_outside_of_the_damage(part: int, tmp_path: Path) -> None:
    """Whatever is cut, inserted or overwritten, all records outside the damage are read."""
    path = tmp_path / "dump"
    for i in range(1000):
        rng = random.Random(f"edit {part} {i}")
        dump = some_dump(rng)
        data, start, end = edit(rng, dump.data)
        path.write_bytes(data)
        texts = [record.whole for record in dump.records]
        ends = [dump.offset(n) for n in range(1, len(texts) + 1)]
        before = sum(position <= start for position in ends)
        after = sum(
            position - len(text) >= end for text, position in zip(texts, ends, strict=True)
        )
        records, found = records_read(path)
        assert records[:before] == texts[:before], f"{part} {i}"
        assert records[len(records) - after :] == texts[len(texts) - after :], f"{part} {i}"
        if not found:
            continue
        assert all(start - len(max(texts, key=len)) <= one.offset for one in found)
        assert found[0].record > before


def with_nul(rng: random.Random, record: bytes) -> bytes:
    """Overwrite some bytes, perhaps the last one."""
    start = rng.randrange(len(record))
    end = min(len(record), start + rng.choice((1, 1, 5, 100)))
    return record[:start] + b"\0" * (end - start) + record[end:]


def without_end(rng: random.Random, record: bytes) -> bytes:
    """Cut off part of the end, at least the empty line; something of the record is left."""
    return record[: rng.randrange(1, len(record))]


def without_start(rng: random.Random, record: bytes) -> bytes:
    """Cut off part of the start; more than the end is left, and no empty line before that."""
    return record[rng.randrange(1, len(record) - 2) :].lstrip(b"\n")


def without_line_end(rng: random.Random, record: bytes) -> bytes:
    """Cut out the end of the header line."""
    end = record.index(b"ns\n" if b" ns\n" in record else b"\n")
    return record[: end - rng.randrange(3)] + record[end + rng.randint(1, 9) :]


def with_pfn_lines(_rng: random.Random, record: bytes) -> bytes:
    """Add two more PFN lines at the end."""
    return record[:-1] + b"PFN 0x1 type Movable Block 0 type Movable Flags 0x0()\n" * 2 + b"\n"


@pytest.mark.parametrize(
    "harm", [with_nul, without_end, without_start, without_line_end, with_pfn_lines]
)
def test_number_of_damaged_records(
    harm: Callable[[random.Random, bytes], bytes], tmp_path: Path
) -> None:
    """Each damaged record is reported once with its number and place, and all others are read."""
    path = tmp_path / "dump"
    for i in range(400):
        rng = random.Random(f"{harm.__name__} {i}")
        texts = [record.whole for record in make_dump(rng, nr_records=rng.randint(3, 40)).records]
        # Two damaged neighbours would count as one, and the last record may lack its empty line.
        harmed = set(range(rng.randrange(2), len(texts) - 1, rng.randint(2, 5)))
        parts = [harm(rng, text) if n in harmed else text for n, text in enumerate(texts)]
        path.write_bytes(b"".join(parts))
        records, found = records_read(path)
        places = [(sum(map(len, parts[:n])), n + 1) for n in sorted(harmed)]
        assert [(one.offset, one.record) for one in found] == places, i
        assert records == [text for n, text in enumerate(texts) if n not in harmed], i
        groups = group_file(str(path))
        assert (groups.nr_records, groups.nr_damaged) == (len(records), len(harmed))
        assert damage(groups) == found


def test_overwritten_stretch(tmp_path: Path) -> None:
    """Binary data over many records is one stretch of damage, wherever it begins and ends."""
    path = tmp_path / "dump"
    for i in range(400):
        rng = random.Random(f"stretch {i}")
        dump = make_dump(rng, nr_records=12)
        first, last = sorted(rng.sample(range(12), 2))
        texts = [record.whole for record in dump.records]
        start = dump.offset(first) + rng.randrange(len(texts[first]))
        end = dump.offset(last) + rng.randint(1, len(texts[last]))
        path.write_bytes(dump.data[:start] + b"\0" * (end - start) + dump.data[end:])
        records, found = records_read(path)
        assert records == texts[:first] + texts[last + 1 :], i
        assert [one[:2] for one in found] == [(dump.offset(first), first + 1)], i


def test_more_damage_than_is_described(tmp_path: Path) -> None:
    """All damaged records are counted, and the first ones are described."""
    dump = make_dump(random.Random("much"), nr_records=1000, eras=[V6_12])
    texts = [record.whole[n % 3 == 0 :] for n, record in enumerate(dump.records)]
    path = tmp_path / "dump"
    path.write_bytes(b"".join(texts))
    records, found = records_read(path)
    groups = group_file(str(path))
    assert (len(records), len(found)) == (666, 334)
    assert (groups.nr_records, groups.nr_damaged) == (666, 334)
    assert damage(groups) == found[:64]
    run = run_ours([], path, tmp_path / "out")
    assert run.code == 0
    lines = run.stderr.decode().splitlines()
    assert len(lines) == 66
    assert lines[0].endswith("record 1 at byte 0: no record begins here; skipped")
    assert lines[64].endswith("and 270 more")
    assert lines[65].endswith("334 damaged records skipped")


# ---- the way of reading does not matter ----


def damaged_text(rng: random.Random) -> bytes:
    """Make a dump, good or damaged in some places, with LF or CR LF."""
    data = some_dump(rng).data
    for _ in range(rng.randint(0, 4)):
        data = edit(rng, data)[0]
    return data.replace(b"\n", b"\r\n") if rng.random() < 0.2 else data


@pytest.mark.parametrize("part", range(4))
def test_chunks_and_parts(part: int) -> None:
    """Chunks of any size and merged parts give the same groups, damage and numbers."""
    for i in range(500):
        rng = random.Random(f"chunks {part} {i}")
        data, rules = damaged_text(rng), rng.choice(RULES)
        expected = read_at_once(data, rules)
        largest = rng.choice((2, 9, 100, 5000))
        assert read_in_chunks(data, rules, rng, largest) == expected, f"{part} {i}"
        assert read_in_parts(data, rules, rng) == expected, f"{part} {i}"


@pytest.mark.slow
@pytest.mark.parametrize("era", [V6_12, V6_1], ids=lambda era: era.name)
def test_every_split(era: Era) -> None:
    """Wherever the text pauses, a command name is read to its end."""
    made = make_dump(random.Random("split"), eras=[era], nr_records=3).records
    for comm in (*HOSTILE_COMMS, *AWKWARD_COMMS):
        records = [replace(record, task=Task(7, 7, comm)) for record in made]
        data = b"".join(record.whole for record in records)
        expected = read_at_once(data, Rules())
        assert expected.counts[:2] == (3, 0), comm
        for size in range(len(data)):
            groups = new_groups(Rules())
            used = groups.feed(data[:size])
            assert groups.feed(data[used:], final=True) == len(data) - used
            assert reading(groups) == expected, (comm, size)


@pytest.mark.parametrize("nr_bytes", [1000, 3900, 3950, 4000, 4050, 5000])
def test_long_lines(nr_bytes: int) -> None:
    """A line far longer than a kernel's is read or is damage, wherever the text is split."""
    made = make_dump(random.Random("long"), eras=[V6_12], nr_records=2).records
    made = tuple(replace(record, flags=b"0x0(zone=1)", has_pfn=True) for record in made)
    long = b"x" * nr_bytes
    for old in (b"zone=", b"Movable Block", b"GFP_", b" [", b" ns\n"):
        data = b"".join(record.whole for record in made).replace(old, long + old, 1)
        expected = read_at_once(data, Rules())
        for size in (*range(1, len(data), 50), *range(4000, 4400, 5)):
            groups = new_groups(Rules())
            used = groups.feed(data[:size])
            groups.feed(data[used:], final=True)
            assert reading(groups) == expected, (old, size)


@pytest.mark.parametrize("window", [1, 100, 4096, input_module.WINDOW_BYTES])
def test_files(window: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file gives the same with one thread, with two, record by record, and with any buffer."""
    monkeypatch.setattr(input_module, "WINDOW_BYTES", window)
    path = tmp_path / "dump"
    nr_halves = 0
    for i in range(250):
        rng = random.Random(f"file {window} {i}")
        data, rules = damaged_text(rng), rng.choice(FILE_RULES)
        path.write_bytes(data)
        expected = sorted_reading(data, rules)
        found: list[Damage] = []
        one_by_one = group_records(read_records(str(path), found.append), rules)
        assert [describe(group) for group in one_by_one] == expected.groups, i
        assert (found[:64], len(found)) == (expected.damage, expected.counts[1]), i
        if not expected.groups:
            continue
        assert reading(group_file(str(path), rules)) == expected, i
        with monkeypatch.context() as patch:
            patch.setattr(groups_module, "PARALLEL_BYTES", 0)
            with input_module.open_input(str(path)) as source:
                nr_halves += groups_module._boundary(source, rules) > 0
            assert reading(group_file(str(path), rules)) == expected, i
    assert nr_halves > 100 or len(os.sched_getaffinity(0)) == 1


def test_pipe_that_trickles() -> None:
    """A pipe may give any number of bytes at a time, even fewer than a magic number has."""
    for i in range(100):
        rng = random.Random(f"pipe {i}")
        data = damaged_text(rng)
        sizes = [rng.randrange(1, rng.choice((3, 500))) for _ in range(len(data))]
        end, start = os.pipe()

        def write(fd: int = start, data: bytes = data, sizes: list[int] = sizes) -> None:
            with os.fdopen(fd, "wb", buffering=0) as file:
                rest = memoryview(data)
                for size in sizes:
                    file.write(rest[:size])
                    rest = rest[size:]

        writer = threading.Thread(target=write)
        writer.start()
        try:
            found: list[Damage] = []
            records = list(read_records(f"/dev/fd/{end}", found.append))
        finally:
            os.close(end)
            writer.join()
        expected = sorted_reading(data, Rules(sort=()))
        assert (len(records), len(found)) == expected.counts[:2], i
        grouped = group_records(records, Rules(sort=()))
        assert [describe(group) for group in grouped] == expected.groups, i


# ---- any bytes at all ----

FRAGMENTS = (
    *(b"Page allocated via order 0, mask 0xcc0(GFP_KERNEL), pid 1, tgid 1 (a), ts 5 ns\n",),
    *(b"Page allocated via order ", b"3, mask 0x1", b", pid -2", b", tgid 3 (", b"), ts 7 ns\n"),
    *(b"PFN 0x1 type Movable Block 0 type CMA Flags 0x1(slab)\n", b"PFN 1 Block 0 Flags \n"),
    *(b" f+0x1/0x2\n", b" f+0x1/0x2 [m]\n", b" 0xffff\n", b"handle: 3\n", b"Charged to memcg /\n"),
    *(
        b", free_ts 0 ns\n",
        b"\n",
        b"\r",
        b"\r\n",
        b"\0",
        b"\xff",
        b" ",
        b"[",
        b"]",
        b"0",
        b"18446744073709551616",
    ),
)
FEW = settings(max_examples=400, derandomize=True, deadline=None, database=None)


@pytest.mark.slow
@FEW
@given(st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=4), max_size=30), st.randoms())
def test_fragments(fragments: list[bytes], rng: random.Random) -> None:
    """Text made from pieces of records is read the same in every way, or is damaged."""
    data = b"".join(fragments)
    for rules in RULES:
        expected = read_at_once(data, rules)
        assert read_in_chunks(data, rules, rng, rng.choice((2, 30))) == expected
        assert read_in_parts(data, rules, rng) == expected
    nr_records, nr_damaged, nr_bytes, _ = expected.counts
    assert nr_bytes == len(data)
    assert nr_records <= data.count(b"Page allocated via order ")
    assert nr_records + nr_damaged > 0 or not data.strip(b"\r\n")
    assert sum(times for times, *_ in expected.groups) == nr_records


@pytest.mark.parametrize("part", range(2))
def test_command_with_damage(part: int, tmp_path: Path) -> None:
    """Any input ends: with 0 if there are records or no text at all, else with 1 and one line."""
    path, out = tmp_path / "dump", tmp_path / "out"
    for i in range(500):
        rng = random.Random(f"command {part} {i}")
        data = damaged_text(rng) if rng.random() < 0.7 else rng.randbytes(rng.randrange(300))
        path.write_bytes(data)
        argv = rng.choice(([], ["-m"], ["-s"], ["--cull=st,mod"], ["-M"], ["--sort=-T,st", "-d"]))
        run = run_ours(argv, path, out)
        expected = sorted_reading(data, Rules(sort=()))
        good = bool(expected.groups) or not expected.damage
        assert run.code == (not good), (part, i)
        assert (run.output is not None) == good, (part, i)
        if not good:
            assert run.stdout == b""
            assert run.stderr.count(b"\n") == 1
            continue
        found = re.findall(rb"^([0-9]+) times, [0-9]+ pages", run.output or b"", re.MULTILINE)
        assert sum(map(int, found)) == expected.counts[0]
