"""Compare dumps of the kernel's page_owner and of ours: see scripts/compare-page-owner."""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from pageownerfs.page_owner_sort import parse_records

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pageownerfs.page_owner_sort import Record

# Frames of the allocator itself: the kernel's hook lies deeper in it than a tracepoint.
_INNER: Final = re.compile(
    r"(post_alloc_hook|prep_new_page|get_page_from_freelist|__alloc_pages_direct_compact"
    r"|__alloc_pages_slowpath.*|__alloc_pages_noprof|__alloc_pages|__alloc_frozen_pages_noprof"
    r"|alloc_pages_bulk_noprof|__alloc_pages_bulk|alloc_contig_range_noprof|split_free_pages"
    r"|alloc_pages_bulk_array_mempolicy_noprof|bpf_trampoline_[0-9]+)"
)
_SAME_TIME_NSEC: Final = 1_000_000
_EARLY_STACK: Final = b"register_early_stack"
_CLASS_FRAMES: Final = 4
_SHOWN: Final = 12
Records = dict[int, "Record"]


class Pair(NamedTuple):
    """Records of one PFN in both."""

    kernel: Record
    ours: Record


class Comparison(NamedTuple):
    """What came of it."""

    counts: Counter[str]
    """Records by what they are."""
    pages: Counter[str]
    """The same in base pages."""
    missing: Counter[str]
    """Records that only the kernel has, by their innermost frames."""
    only_ours: Counter[str]
    differing: dict[str, Counter[str]]
    """Field -> what the two say, how often."""
    stacks: Counter[str]


def load(path: Path) -> Records:
    """Read a dump, by PFN."""
    damage: list[object] = []
    records = {
        r.pfn: r for r in parse_records(path.read_bytes(), damage.append) if r.pfn is not None
    }
    if damage:
        sys.exit(f"{path}: {len(damage)} damaged records, the first: {damage[0]}")
    return records


def stable(before: Records, after: Records) -> Records:
    """Keep the records that are the same in both."""
    return {pfn: record for pfn, record in before.items() if after.get(pfn) == record}


def functions(record: Record) -> list[str]:
    """Name the functions of its stack, innermost first."""
    return [line.strip().split(b"+")[0].decode() for line in record.stack.splitlines()]


def outer_frames(record: Record) -> list[bytes]:
    """Frames of a stack beyond the allocator's own."""
    frames = record.stack.splitlines()
    while frames and _INNER.fullmatch(frames[0].strip().split(b"+")[0].decode()):
        del frames[0]
    return frames


def is_early(record: Record) -> bool:
    """Whether we don't know its owner."""
    return _EARLY_STACK in record.stack.split(b"\n", 1)[0]


def clock_offset(kernel: Records, ours: Records) -> int:
    """Kernel's time less ours: local_clock() and CLOCK_MONOTONIC started apart."""
    differences = [
        (record.ts_nsec or 0) - (ours[pfn].ts_nsec or 0)
        for pfn, record in kernel.items()
        if pfn in ours and not is_early(ours[pfn]) and record.pid == ours[pfn].pid
    ]
    return int(statistics.median(differences)) if differences else 0


def class_of(record: Record) -> str:
    """Name the kind of allocation, for what is missing."""
    note = record.notes.split(b"\n")[0].decode(errors="replace")
    migrated = " | migrated" if note.startswith("Page has been migrated") else ""
    return " < ".join(functions(record)[:_CLASS_FRAMES]) + migrated


def compare_fields(pair: Pair, offset: int) -> dict[str, str]:
    """Name the fields that differ, with what the two say."""
    kernel, ours = pair
    names = ("order", "mask", "pid", "tgid", "comm", "page_mt", "pageblock", "pageblock_mt",
             "flags", "notes")  # fmt: skip
    found = {
        name: f"{getattr(kernel, name)!r} | {getattr(ours, name)!r}"
        for name in names
        if getattr(kernel, name) != getattr(ours, name)
    }
    if compare_times(pair, offset) < -_SAME_TIME_NSEC:
        found["ts"] = class_of(kernel)
    return found


def compare_times(pair: Pair, offset: int) -> int:
    """How much later ours is, nanoseconds: the tracepoint comes after the kernel's record."""
    return (pair.ours.ts_nsec or 0) - (pair.kernel.ts_nsec or 0) + offset


def compare_stacks(pair: Pair) -> str:
    """Tell how the stacks compare."""
    kernel, ours = outer_frames(pair.kernel), outer_frames(pair.ours)
    common = min(len(kernel), len(ours))
    if kernel == ours:
        return "equal beyond the allocator's frames"
    if b"register_dummy_stack" in pair.kernel.stack:
        return "the kernel's is a dummy: its stack depot allocated"
    if common and kernel[:common] == ours[:common]:
        return "equal as far as both reach (16 frames)"
    return (
        f"DIFFERENT: {class_of(pair.kernel)} | {' < '.join(functions(pair.ours)[:_CLASS_FRAMES])}"
    )


def compare(kernel: Records, ours: Records, all_ours: Records, all_kernel: Records) -> Comparison:
    """Compare the stable records of both."""
    offset = clock_offset(kernel, ours)
    attached = max((r.ts_nsec or 0 for r in ours.values() if is_early(r)), default=0) + offset
    result = Comparison(
        Counter(), Counter(), Counter(), Counter(), defaultdict(Counter), Counter()
    )

    def count(what: str, nr_pages: int) -> None:
        result.counts[what] += 1
        result.pages[what] += nr_pages

    for pfn, record in kernel.items():
        mine = ours.get(pfn)
        nr_pages = record.nr_base_pages
        if mine is not None and not is_early(mine):
            count("in both", nr_pages)
            differing = compare_fields(Pair(record, mine), offset)
            if compare_times(Pair(record, mine), offset) > _SAME_TIME_NSEC:
                result.stacks["ts: ours is more than 1 ms later, an interruption between"] += 1
            for field, text in differing.items():
                result.differing[field][text] += 1
            stacks = compare_stacks(Pair(record, mine))
            result.stacks[stacks.split(":")[0]] += 1
            if stacks.startswith("DIFFERENT"):
                result.differing["stack"][stacks] += 1
        elif pfn in all_ours and pfn not in ours:
            count("changing (left out)", nr_pages)
        elif (record.ts_nsec or 0) < attached - _SAME_TIME_NSEC:
            shown = sum(is_early(all_ours[p]) for p in range(pfn, pfn + nr_pages) if p in all_ours)
            count("before the start: shown as early" if shown == nr_pages else
                  "before the start: not all of it shown as early", nr_pages)  # fmt: skip
        else:
            count("only the kernel has it" + (" (unknown to us)" if mine else ""), nr_pages)
            result.missing[class_of(record)] += 1
    covered = tails(all_kernel)
    for pfn, record in ours.items():
        if pfn in all_kernel or is_early(record):
            continue
        nr_pages = record.nr_base_pages
        count("only we have it", nr_pages)
        tail = " (a tail page for the kernel)" if pfn in covered else ""
        result.only_ours[class_of(record) + tail] += 1
    return result


def tails(records: Records) -> set[int]:
    """PFNs of tail pages."""
    return {p for pfn, r in records.items() for p in range(pfn + 1, pfn + r.nr_base_pages)}


def print_counter(title: str, counter: Mapping[str, int]) -> None:
    """Print the most frequent."""
    if not counter:
        return
    print(f"  {title}:")
    for text, number in Counter(counter).most_common(_SHOWN):
        print(f"    {number:8}  {text}")


def report(number: int, result: Comparison, known: Iterable[str]) -> bool:
    """Print a comparison; whether nothing is missing, differs, or is only ours."""
    print(f"mount {number}:")
    for what, nr in sorted(result.counts.items()):
        print(f"  {what:50} {nr:8} records {result.pages[what]:8} pages")
    both = result.counts["in both"]
    missed = sum(result.missing.values())
    if both + missed:
        print(f"  coverage after the start: {100 * both / (both + missed):.4f} % of records")
    print_counter("stacks and times", result.stacks)
    for field, counter in result.differing.items():
        print_counter(f"{field} differs (kernel's | ours)", counter)
    print_counter("only the kernel has it", result.missing)
    print_counter("only we have it", result.only_ours)
    for text in known:
        print(f"  not seen, it says: {text}")
    return not (missed or result.differing or result.only_ours) and both > 0


def main() -> int:
    """0: equal; 1: not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dumps", type=Path)
    args = parser.parse_args()
    kernel = [load(args.dumps / f"kernel.{moment}") for moment in ("before", "after")]
    print(f"the kernel's own: {len(kernel[0])} records, {len(kernel[1])} a moment later")
    equal = True
    for path in sorted(args.dumps.glob("ours*.before")):
        number = int(path.stem.removeprefix("ours"))
        ours = [load(path), load(path.with_suffix(".after"))]
        result = compare(stable(*kernel), stable(*ours), ours[1] | ours[0], kernel[1] | kernel[0])
        status = json.loads((args.dumps / f"ours{number}.status").read_text())
        equal = report(number, result, status["unseen"]) and equal
        stats = status["stats"]
        names = ("events_lost", "stack_checked", "stack_wrong", "stack_failed", "stack_depot_full")
        print("  " + ", ".join(f"{name} {stats.get(name)}" for name in names))
    print("equal" if equal else "NOT EQUAL")
    return 0 if equal else 1


if __name__ == "__main__":
    raise SystemExit(main())
