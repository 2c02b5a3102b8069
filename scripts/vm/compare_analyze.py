"""Compare dumps of the kernel's page_owner with ours; see scripts/compare-page-owner."""

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
    from collections.abc import Mapping, Sequence

    from pageownerfs.page_owner_sort import Record

# Frames of the allocator itself: the kernel's hook runs deeper inside it than a tracepoint.
_INNER: Final = re.compile(
    r"(post_alloc_hook|prep_new_page|get_page_from_freelist|__alloc_pages_direct_compact"
    r"|__alloc_pages_slowpath.*|__alloc_pages_noprof|__alloc_pages|__alloc_frozen_pages_noprof"
    r"|alloc_pages_bulk_noprof|__alloc_pages_bulk|alloc_contig_range_noprof|split_free_pages"
    r"|alloc_pages_bulk_array_mempolicy_noprof|bpf_trampoline_[0-9]+)"
)
# Frames of the programs that watch, which appear in the kernel's own stacks; some have no name.
_FOREIGN: Final = re.compile(rb" (bpf_|0x)")
# A slab page has this flag while its slab is on a list, and reading either file changes that.
_SLAB_LIST_FLAG: Final = b"workingset|"
_SAME_TIME_NSEC: Final = 1_000_000
_EARLY_STACK: Final = b"register_early_stack"
_CLASS_FRAMES: Final = 4
_SHOWN: Final = 12
Records = dict[int, "Record"]


class Pair(NamedTuple):
    """The records of one PFN in both dumps."""

    kernel: Record
    ours: Record


class Comparison:
    """The result of the comparison, record by record."""

    def __init__(self, offset: int, attached_nsec: int) -> None:
        """
        Start an empty comparison.

        :param offset: the kernel's time minus ours, in nanoseconds
        :param attached_nsec: the time of our start on the kernel's clock
        """
        self.offset = offset
        self.attached_nsec = attached_nsec
        self.counts: Counter[str] = Counter()
        self.pages: Counter[str] = Counter()
        self.missing: Counter[str] = Counter()
        self.missing_classes: Counter[str] = Counter()
        self.only_ours: Counter[str] = Counter()
        self.differing: dict[str, Counter[str]] = defaultdict(Counter)
        self.remarks: Counter[str] = Counter()

    def count(self, what: str, record: Record) -> None:
        """Count a record and its pages."""
        self.counts[what] += 1
        self.pages[what] += record.nr_base_pages

    def both(self, pair: Pair) -> None:
        """Add a record that both have."""
        self.count("in both", pair.kernel)
        for field, text in compare_fields(pair, self.offset).items():
            self.differing[field][text] += 1
        if compare_times(pair, self.offset) > _SAME_TIME_NSEC:
            self.remarks["ts: ours is more than 1 ms later (interrupted in between)"] += 1
        stacks = compare_stacks(pair)
        self.remarks[stacks.split(":")[0]] += 1
        if stacks.startswith("DIFFERENT"):
            self.differing["stack"][stacks] += 1

    def only_kernel(self, record: Record, all_ours: Records, our_tails: set[int]) -> None:
        """Add a record that we lack, or whose owner we don't know."""
        pfn, nr_pages = record.pfn or 0, record.nr_base_pages
        if (record.ts_nsec or 0) < self.attached_nsec - _SAME_TIME_NSEC:
            pfns = range(pfn, pfn + nr_pages)
            shown = sum(is_early(all_ours[p]) for p in pfns if p in all_ours)
            whole = "shown as early" if shown == nr_pages else "not all of it shown as early"
            self.count(f"before the start: {whole}", record)
            return
        self.count("missing from ours" + (" (owner unknown)" if pfn in all_ours else ""), record)
        self.missing[class_of(record)] += 1
        self.missing_classes["split" if pfn in our_tails else miss_class(record)] += 1


_MISS_CLASSES: Final = {
    "bulk allocation": re.compile(rb" (__)?alloc_pages_bulk"),
    "contiguous range": re.compile(rb" alloc_contig_"),
    "migrated": re.compile(rb"Page has been migrated| (compaction_alloc|migrate_pages)"),
}
_UNNAMED: Final = "unclassified"


def miss_class(record: Record) -> str:
    """Name the way in which a page bypassed the tracepoints."""
    text = record.stacktrace
    found = (name for name, pattern in _MISS_CLASSES.items() if pattern.search(text))
    return next(found, _UNNAMED)


def load(path: Path) -> Records:
    """Read a dump into a dictionary by PFN."""
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
    """Return the functions of the record's stack, innermost first."""
    return [line.strip().split(b"+")[0].decode() for line in record.stack.splitlines()]


def outer_frames(record: Record) -> list[bytes]:
    """Return the frames of a stack without the allocator's own."""
    frames = [frame for frame in record.stack.splitlines() if not _FOREIGN.match(frame)]
    while frames and _INNER.fullmatch(frames[0].strip().split(b"+")[0].decode()):
        del frames[0]
    return frames


def is_early(record: Record) -> bool:
    """Return whether we don't know the record's owner."""
    return _EARLY_STACK in record.stack.split(b"\n", 1)[0]


def clock_offset(kernel: Records, ours: Records) -> int:
    """Return the kernel's time minus ours: local_clock() and CLOCK_MONOTONIC started apart."""
    differences = [
        (record.ts_nsec or 0) - (ours[pfn].ts_nsec or 0)
        for pfn, record in kernel.items()
        if pfn in ours and not is_early(ours[pfn]) and record.pid == ours[pfn].pid
    ]
    return int(statistics.median(differences)) if differences else 0


def class_of(record: Record) -> str:
    """Name the kind of allocation, to classify missing records."""
    note = record.notes.split(b"\n")[0].decode(errors="replace")
    migrated = " | migrated" if note.startswith("Page has been migrated") else ""
    return " < ".join(functions(record)[:_CLASS_FRAMES]) + migrated


def compare_fields(pair: Pair, offset: int) -> dict[str, str]:
    """Name the fields that differ, with both values."""
    kernel, ours = pair
    names = ("order", "mask", "pid", "tgid", "comm", "page_mt", "pageblock", "pageblock_mt",
             "flags", "notes")  # fmt: skip
    found = {
        name: f"{getattr(kernel, name)!r} | {getattr(ours, name)!r}"
        for name in names
        if getattr(kernel, name) != getattr(ours, name)
    }
    if b" allocate_slab+" in kernel.stack and "flags" in found:
        flags = [(r.flags or b"").partition(b"(")[2] for r in pair]
        if flags[0].replace(_SLAB_LIST_FLAG, b"") == flags[1].replace(_SLAB_LIST_FLAG, b""):
            del found["flags"]
    if compare_times(pair, offset) < -_SAME_TIME_NSEC:
        found["ts"] = class_of(kernel)
    return found


def compare_times(pair: Pair, offset: int) -> int:
    """Return how many ns ours is later: the tracepoint comes after the kernel's record."""
    return (pair.ours.ts_nsec or 0) - (pair.kernel.ts_nsec or 0) + offset


def compare_stacks(pair: Pair) -> str:
    """Say how the stacks compare."""
    kernel, ours = outer_frames(pair.kernel), outer_frames(pair.ours)
    common = min(len(kernel), len(ours))
    if kernel == ours:
        return "equal apart from the allocator's frames"
    if b"register_dummy_stack" in pair.kernel.stack:
        return "the kernel's is a dummy: its stack depot was allocating"
    if common and kernel[:common] == ours[:common]:
        return "equal as far as both reach (16 frames)"
    return (
        f"DIFFERENT: {class_of(pair.kernel)} | {' < '.join(functions(pair.ours)[:_CLASS_FRAMES])}"
    )


def compare(kernel: Records, ours: Records, all_ours: Records, all_kernel: Records) -> Comparison:
    """Compare the stable records of both."""
    offset = clock_offset(kernel, ours)
    attached = max((r.ts_nsec or 0 for r in ours.values() if is_early(r)), default=0) + offset
    result = Comparison(offset, attached)
    our_tails = tails(all_ours)
    for pfn, record in kernel.items():
        mine = ours.get(pfn)
        if mine is not None and not is_early(mine):
            result.both(Pair(record, mine))
        elif pfn in all_ours and pfn not in ours:
            result.count("changing (left out)", record)
        else:
            result.only_kernel(record, all_ours, our_tails)
    covered = tails(all_kernel)
    for pfn, record in ours.items():
        if pfn not in all_kernel and not is_early(record):
            result.count("only in ours", record)
            tail = " (the kernel's tail page)" if pfn in covered else ""
            result.only_ours[class_of(record) + tail] += 1
    return result


def tails(records: Records) -> set[int]:
    """Return the PFNs of tail pages."""
    return {p for pfn, r in records.items() for p in range(pfn + 1, pfn + r.nr_base_pages)}


def print_counter(title: str, counter: Mapping[str, int]) -> None:
    """Print the most frequent entries."""
    if not counter:
        return
    print(f"  {title}:")
    for text, number in Counter(counter).most_common(_SHOWN):
        print(f"    {number:8}  {text}")


def report(number: int, result: Comparison, unseen: Sequence[str]) -> bool:
    """
    Print a comparison and return whether it is as expected.

    With all hooks, nothing may be missing, differ, or exist in ours only. Without hooks, a missing
    record must belong to a named class, and blocks that were split may have another order.
    """
    print(f"mount {number}:")
    for what, nr in sorted(result.counts.items()):
        print(f"  {what:50} {nr:8} records {result.pages[what]:8} pages")
    both = result.counts["in both"]
    missed = sum(result.missing.values())
    if both + missed:
        print(f"  coverage after the start: {100 * both / (both + missed):.4f} % of records")
    print_counter("stacks and times", result.remarks)
    for field, counter in result.differing.items():
        print_counter(f"{field} differs (kernel's | ours)", counter)
    print_counter("missing from ours, by class", result.missing_classes)
    print_counter("missing from ours", result.missing)
    print_counter("only in ours", result.only_ours)
    for text in unseen:
        print(f"  not seen, according to its status: {text}")
    allowed = {"order"} if unseen else set()
    unnamed = result.missing_classes[_UNNAMED] if unseen else missed
    return both > 0 and not (unnamed or result.differing.keys() - allowed or result.only_ours)


def report_alone(path: Path) -> bool:
    """Describe one dump of ours; return whether no record lies inside another's block."""
    records = load(path)
    orders = Counter(record.order for record in records.values() if not is_early(record))
    early = sum(map(is_early, records.values()))
    print(f"{path.stem}: {len(records)} records, {early} of them early")
    for order, nr in sorted(orders.items()):
        print(f"  order {order:2}: {nr:8}")
    inside = tails(records) & records.keys()
    for pfn in sorted(inside)[:_SHOWN]:
        print(f"  PFN {pfn:#x} lies in the block of another record: {class_of(records[pfn])}")
    return not inside


def main() -> int:
    """Return 0 if the dumps are equal, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dumps", type=Path)
    args = parser.parse_args()
    if not (args.dumps / "kernel.before").exists():
        sound = [report_alone(path) for path in sorted(args.dumps.glob("ours*.after"))]
        return 0 if all(sound) else 1
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
