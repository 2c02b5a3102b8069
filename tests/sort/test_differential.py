"""Ours and the kernel's page_owner_sort agree on thousands of random dumps.

Where the kernel's tool misreads a record, a model says what is right (lib/sort_model.py).
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from dumps import ERAS, KERNEL_RECORD, V6_1, V6_12, Dump, Stack, huge_record, make_dump
from sort_model import LETTERS_6_12, Choice, choose, choose_6_1, choose_any, expected_output
from sort_runs import group_names, run_kernel, run_ours, sort_ours, split_groups, without

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from dumps import Era
    from sort_runs import Run

NR_SEEDS = 10_000
CHUNK = 500
# The current kernel is more likely than each of the others.
EVERY_ERA = (V6_12, V6_12, *ERAS)
WITH_COMM = (V6_12, V6_1)


def in_chunks(nr_seeds: int, chunk: int) -> pytest.MarkDecorator:
    """Parametrize by ranges of seeds."""
    ranges = [range(start, start + chunk) for start in range(0, nr_seeds, chunk)]
    return pytest.mark.parametrize("seeds", ranges, ids=[f"seed-{part[0]}" for part in ranges])


def compare(
    tool: Path, cases: Iterable[tuple[int, Dump, Choice]], folder: Path
) -> Iterator[tuple[Dump, Choice, Run, Run, str]]:
    """Run both on each dump; yield dump, options, the kernel's run, ours, and a name for the case.

    The kernel's tool runs in two threads while ours runs in this one.
    """
    with ThreadPoolExecutor(2) as pool:
        started = []
        for seed, dump, choice in cases:
            source, out = folder / f"{seed}.txt", folder / f"{seed}.kernel"
            source.write_bytes(dump.data)
            future = pool.submit(run_kernel, tool, choice.argv, source, out)
            started.append((seed, dump, choice, source, out, future))
        for seed, dump, choice, source, out, future in started:
            ours = run_ours(choice.argv, source, folder / "ours")
            kernel = future.result()
            yield dump, choice, kernel, ours, f"seed {seed}, era {dump.era.name}: {choice.argv}"
            source.unlink()
            out.unlink(missing_ok=True)


@pytest.mark.slow
@pytest.mark.require("page_owner_sort")
@in_chunks(NR_SEEDS, CHUNK)
def test_identical(seeds: range, page_owner_sort: Path, tmp_path: Path) -> None:
    """For the dumps of any day, both make the same file, lines on stdout and exit code."""

    def cases() -> Iterator[tuple[int, Dump, Choice]]:
        for seed in seeds:
            rng = random.Random(seed)
            dump = make_dump(rng, eras=EVERY_ERA)
            yield seed, dump, choose(rng, dump)

    for dump, choice, kernel, ours, name in compare(page_owner_sort, cases(), tmp_path):
        assert ours.compared == kernel.compared, name
        assert ours.stderr == b"", name
        assert ours.output == expected_output(dump.records, choice), name


@pytest.mark.require("page_owner_sort")
@pytest.mark.parametrize("letter", ["", "-m", "-a"])
def test_thousands_of_records(letter: str, page_owner_sort: Path, tmp_path: Path) -> None:
    """With thousands of records, both report the number of loaded records on stdout."""
    rng = random.Random(letter)
    dump = make_dump(rng, nr_records=3000, eras=WITH_COMM)
    filtered = Choice(letter, pids=tuple({record.task.pid for record in dump.records[:2]}))
    cases = [(0, dump, Choice(letter)), (1, dump, filtered)]
    for _dump, _choice, kernel, ours, name in compare(page_owner_sort, cases, tmp_path):
        assert ours.compared == kernel.compared, name
        assert b"loaded 1000\r" in ours.stdout, name


@pytest.mark.require("page_owner_sort")
def test_last_record_without_its_end(page_owner_sort: Path, tmp_path: Path) -> None:
    """The last record counts without its empty line, and without its last newline."""
    rng = random.Random("no end")
    source, out = tmp_path / "dump", tmp_path / "out"
    for seed in range(200):
        dump = make_dump(rng, nr_records=rng.randint(1, 6))
        if not dump.records[-1].has_pfn and not dump.records[-1].stacktrace:
            continue  # only a header line is left
        choice = choose(rng, dump)
        source.write_bytes(dump.data)
        kernel = run_kernel(page_owner_sort, choice.argv, source, out)
        for cut in (1, 2):
            source.write_bytes(dump.data[:-cut])
            ours = run_ours(choice.argv, source, out)
            assert ours.compared == kernel.compared, (seed, cut, dump.data[-200:])
            assert ours.stderr == b"", (seed, cut)


@pytest.mark.require("page_owner_sort")
def test_crlf(page_owner_sort: Path, tmp_path: Path) -> None:
    """From a dump with CR LF, ours makes what both make from it with LF."""

    def cases() -> Iterator[tuple[int, Dump, Choice]]:
        for seed in range(300):
            rng = random.Random(f"crlf {seed}")
            dump = make_dump(rng)
            yield seed, dump, choose(rng, dump)

    source = tmp_path / "crlf"
    for dump, choice, kernel, ours, name in compare(page_owner_sort, cases(), tmp_path):
        source.write_bytes(dump.crlf)
        crlf = run_ours(choice.argv, source, tmp_path / "out")
        assert crlf == ours, name
        assert crlf.compared == kernel.compared, name


@pytest.mark.require("page_owner_sort")
@pytest.mark.parametrize("era", ERAS, ids=lambda era: era.name)
def test_address_without_symbol(era: Era, page_owner_sort: Path, tmp_path: Path) -> None:
    """A frame may be an address without a name, with or without a module."""
    made = make_dump(random.Random("address"), eras=[era], nr_records=4)
    frames = [b"0xffffffffc0a01234", b"0xffffffffc0a01234 [nvme]", b"vfs_read+0x1/0x20"]
    if era.addresses:
        frames = [b"[<ffffffffc0a01234>] " + frame for frame in frames]
    lines = [b" " + frame for frame in frames]
    orders = (lines, lines[::-1], lines[:2], lines[1:2])
    records = [
        replace(record, stack=Stack(tuple(stack)), extra=())
        for record, stack in zip(made.records, orders, strict=True)
    ]
    dump = Dump(era, tuple(records * 3))
    cases = [(0, dump, Choice()), (1, dump, Choice("-m", cull=("st",)))]
    for _dump, _choice, kernel, ours, name in compare(page_owner_sort, cases, tmp_path):
        assert ours.compared == kernel.compared, name
        assert ours.stderr == b""


# ---- records that the kernel's tool misreads ----


def check_misread(tool: Path, dump: Dump, choice: Choice, folder: Path) -> int:
    """Check that ours reads every record, and that both agree except for misread records.

    The kernel's tool gets the dump without those records, so that their effect on others does not
    count. Returns the number of groups that were compared with the kernel's.
    """
    source, out = folder / "dump", folder / "out"
    source.write_bytes(dump.data)
    ours = sort_ours(choice.argv, source, out)
    assert ours == expected_output(dump.records, choice)
    if choice.cull and choice.filters:
        return 0  # the group's line then shows values of its first record that others lack
    if any(b"," in name for name in choice.names or ()):
        return 0  # the kernel's tool cannot take such a name
    source.write_bytes(dump.only(misread=True).data)
    culled = bool(choice.cull)
    misread = group_names(sort_ours(choice.argv, source, out), culled=culled)
    # The kernel's tool has room for one record per 100 bytes, and drops an incomplete one.
    rest = dump.only(misread=False)
    source.write_bytes(rest.data + b"x" * KERNEL_RECORD * len(rest.records))
    kernel = run_kernel(tool, choice.argv, source, out).output
    assert kernel is not None
    kept = without(ours, misread, culled=culled)
    assert kept == without(kernel, misread, culled=culled)
    assert len(kept) + len(misread) == len(split_groups(ours))
    return len(kept)


@pytest.mark.slow
@pytest.mark.require("page_owner_sort")
@in_chunks(1500, 500)
def test_misread_records(seeds: range, page_owner_sort: Path, tmp_path: Path) -> None:
    """Command names that the kernel's tool takes for text are read and harm no other record."""
    nr_misread, nr_same = 0, 0
    for seed in seeds:
        rng = random.Random(f"hostile {seed}")
        dump = make_dump(rng, eras=WITH_COMM, hostile=True)
        choice = choose(rng, dump, commas=True)
        nr_misread += sum(record.misread for record in dump.records)
        nr_same += check_misread(page_owner_sort, dump, choice, tmp_path)
    assert nr_misread > len(seeds)
    assert nr_same > len(seeds)


@pytest.mark.require("page_owner_sort")
@pytest.mark.parametrize("era", ERAS, ids=lambda era: era.name)
def test_huge_record(era: Era, page_owner_sort: Path, tmp_path: Path) -> None:
    """A record with thousands of frames counts, although the kernel's tool stops reading there."""
    nr_same = 0
    for seed in range(6):
        rng = random.Random(f"huge {seed}")
        made = make_dump(rng, eras=[era], nr_records=8)
        records = list(made.records)
        at = rng.choice((0, 3, 7))
        records[at] = huge_record(rng, records[at])
        # Another record with the same stack, elsewhere in the dump.
        records[4] = replace(records[4], stack=records[at].stack)
        dump = Dump(made.era, tuple(records))
        assert sum(record.misread for record in dump.records) == 2
        nr_same += check_misread(page_owner_sort, dump, choose(rng, dump), tmp_path)
    assert nr_same > 6


@pytest.mark.require("page_owner_sort")
def test_missing_pfn_line(page_owner_sort: Path, tmp_path: Path) -> None:
    """A record without a PFN line is not CMA or SLAB because the previous one was."""
    rng = random.Random("no PFN line")
    source, out = tmp_path / "dump", tmp_path / "out"
    made = make_dump(rng, eras=[V6_12], nr_records=2)
    first = replace(made.records[0], has_pfn=True, block_type=b"CMA", order=0)
    second = replace(made.records[1], has_pfn=False, stack=huge_record(rng, first, 200).stack)
    second = replace(second, stack=second.stack._replace(vmalloc=False), order=1)
    dump = Dump(made.era, (first, second))
    choice = Choice("-m", cull=("ator", "st"))
    source.write_bytes(dump.data)
    ours = sort_ours(choice.argv, source, out)
    assert ours == expected_output(dump.records, choice)
    assert ours.startswith(b"1 times, 2 pages, allocated by OTHERS :\n")
    kernel = run_kernel(page_owner_sort, choice.argv, source, out).output
    assert kernel is not None
    assert kernel.startswith(b"1 times, 2 pages, allocated by CMA :\n")


# ---- features that the tool of Linux 6.12 lacks ----


@pytest.mark.slow
@in_chunks(3000, 1000)
def test_sort_and_modules(seeds: range, tmp_path: Path) -> None:
    """--sort with several keys, both directions, -M, --module, -r and -f do what they say."""
    source, out = tmp_path / "dump", tmp_path / "out"
    for seed in seeds:
        rng = random.Random(f"sort {seed}")
        dump = make_dump(rng, eras=EVERY_ERA, hostile=rng.random() < 0.2)
        choice = choose_any(rng, dump)
        source.write_bytes(dump.data)
        if not dump.records:
            continue
        ours = sort_ours(choice.argv, source, out)
        assert ours == expected_output(dump.records, choice), f"seed {seed}: {choice.argv}"


@pytest.mark.parametrize("letter", ["", "-M", *LETTERS_6_12])
def test_letter_overrides_sort(letter: str, tmp_path: Path) -> None:
    """--sort applies unless a letter is given anywhere on the command line."""
    rng = random.Random("override")
    source, out = tmp_path / "dump", tmp_path / "out"
    dump = make_dump(rng, eras=[V6_12], nr_records=60)
    source.write_bytes(dump.data)
    letters = [letter] if letter else []
    expected = expected_output(dump.records, Choice(letter, sort=("-tgid", "n")))
    assert sort_ours([*letters, "--sort=-tgid,n"], source, out) == expected
    assert sort_ours(["--sort=pid", "--sort=-tgid,n", *letters], source, out) == expected


def test_more_sort_keys_than_there_are(tmp_path: Path) -> None:
    """--sort may repeat a key; the first one counts."""
    rng = random.Random("again")
    source, out = tmp_path / "dump", tmp_path / "out"
    dump = make_dump(rng, eras=[V6_12], nr_records=60)
    source.write_bytes(dump.data)
    choice = Choice(sort=("-p", *("+p", "n", "st", "-tg") * 5))
    assert sort_ours(choice.argv, source, out) == expected_output(dump.records, choice)


def test_large_orders(tmp_path: Path) -> None:
    """Page counts are right where the kernel's tool runs out of bits."""
    rng = random.Random("orders")
    source, out = tmp_path / "dump", tmp_path / "out"
    made = make_dump(rng, eras=[V6_12], nr_records=40)
    records = tuple(replace(r, order=rng.choice((0, 1, 30, 31, 32, 50))) for r in made.records)
    source.write_bytes(b"".join(record.whole for record in records))
    for choice in (Choice("-m"), Choice("-m", cull=("st",)), Choice(cull=("pid", "n"))):
        assert sort_ours(choice.argv, source, out) == expected_output(records, choice)


@pytest.mark.slow
@in_chunks(1500, 500)
def test_as_6_1(seeds: range, page_owner_sort_6_1: Path, tmp_path: Path) -> None:
    """-r, -f, --sort and --cull=f do what they did in Linux 6.1, ties included.

    The tool of 6.1 keeps ts in the text. Ours does that only if it sorts by a time first; so other
    runs are compared where --cull leaves the text out. The tool of 6.1 also swaps RELEASED and
    UNRELEASED, and does not report a record that equals the previous one as loaded.
    """

    def cases() -> Iterator[tuple[int, Dump, Choice]]:
        for seed in seeds:
            rng = random.Random(f"6.1 {seed}")
            dump = make_dump(rng, eras=[V6_1])
            yield seed, dump, choose_6_1(rng, dump)

    for _dump, choice, kernel, ours, name in compare(page_owner_sort_6_1, cases(), tmp_path):
        output = kernel.output or b""
        if {"free", "f"} & set(choice.cull):
            for old, new in ((b" (RE", b" (!"), (b" (UNRE", b" (RE"), (b" (!", b" (UNRE")):
                output = output.replace(old, new)
        assert (ours.code, ours.output) == (kernel.code, output), name


def test_unreleased_records_6_1(page_owner_sort_6_1: Path, tmp_path: Path) -> None:
    """-f alone keeps the records that 6.1 keeps, and groups them like any others."""
    source, out = tmp_path / "dump", tmp_path / "out"
    nr_dropped = 0
    for seed in range(100):
        dump = make_dump(random.Random(f"-f {seed}"), eras=[V6_1])
        source.write_bytes(dump.data)
        kernel = run_kernel(page_owner_sort_6_1, ["-f"], source, out).output or b""
        ours = sort_ours(["-f", "-a"], source, out)
        assert sorted(split_groups(ours)) == sorted(split_groups(kernel))
        kept = sort_ours(["-f"], source, out)
        assert kept == expected_output(dump.records, Choice(unreleased=True))
        nr_dropped += len(split_groups(ours)) < len(dump.records)
    assert nr_dropped > 20


# ---- command lines ----


@pytest.mark.require("page_owner_sort")
@pytest.mark.parametrize(
    "argv",
    [
        pytest.param(["-t", "-t"], id="letter-twice"),
        pytest.param(["-tt", "-d"], id="letters-joined"),
        pytest.param(["-a", "-m"], id="two-letters"),
        pytest.param(["-Z"], id="unknown-letter"),
        pytest.param(["--bogus"], id="unknown-option"),
        pytest.param(["--pid"], id="value-is-the-input"),
        pytest.param(["--pid=1,x"], id="pid-not-a-number"),
        pytest.param(["--pid="], id="no-pid"),
        pytest.param(["--pid=1,"], id="comma-behind-pid"),
        pytest.param(["--pid=1_0"], id="pid-underscore"),
        pytest.param(["--pid=+1,-1,007"], id="pid-signs-and-zeros"),
        pytest.param(["--pid=99999999999999999999"], id="pid-too-large"),
        pytest.param(["--pid=" + "1" * 5000], id="pid-of-5000-digits"),
        pytest.param(["--tgid=0x1"], id="tgid-hex"),
        pytest.param(["--pid=0", "--pid=1"], id="pid-twice"),
        pytest.param(["--tg", "0,1"], id="abbreviated"),
        pytest.param(["--name="], id="empty-name"),
        pytest.param(["--name=,"], id="empty-names"),
        pytest.param(["--cull=bogus"], id="cull-unknown"),
        pytest.param(["--cull="], id="cull-nothing"),
        pytest.param(["--cull=pid,"], id="cull-comma-behind"),
        pytest.param(["--cull=txt"], id="cull-txt"),
        pytest.param(["--cull=alloc_ts"], id="cull-alloc-ts"),
        pytest.param(["--cull=st", "--cull=n", "-m"], id="cull-twice"),
        pytest.param(["--cull=st,st,stacktrace"], id="cull-same-key"),
        pytest.param(["--cull=+st"], id="cull-sign"),
        pytest.param(["--sort=bogus"], id="sort-unknown"),
        pytest.param(["--sort="], id="sort-nothing"),
        pytest.param(["--sort=--pid"], id="sort-two-signs"),
    ],
)
def test_command_lines(argv: list[str], page_owner_sort: Path, tmp_path: Path) -> None:
    """The kernel's tool and ours treat valid and invalid command lines alike."""
    dump = make_dump(random.Random("command line"), eras=[V6_12], nr_records=30)
    cases = [(0, dump, Choice(extra=tuple(argv)))]
    for _dump, _choice, kernel, ours, name in compare(page_owner_sort, cases, tmp_path):
        assert ours.compared == kernel.compared, name
