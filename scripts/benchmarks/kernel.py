"""Table 10: tracking the running kernel."""

from __future__ import annotations

import functools
import os
import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from pageownerfs import PageOwnerError
from pageownerfs.daemon.mounts import read_mounts
from pageownerfs.sources.kernel.options import KernelOptions

from .kernel_load import against_off, built_loads, compile_files
from .kernel_mount import cat_part, idle_part, skip_part, start_part
from .kernel_peers import Ftrace, working_peers
from .kernel_tracker import end_pfn, loaded_tracker
from .report import Goal, Row, Table, compared, limited, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .kernel_load import Loads
    from .kernel_mount import Part
    from .kernel_peers import Peer
    from .kernel_tracker import SwitchedTracker

_STACKS: Final = "16 frames, both events"
_ALLOC_STACKS: Final = "16 frames, free_stacks=off"
_NO_STACKS: Final = "no stacks"
_STACKS_GOAL: Final = Goal(1000, unit="ns")
_NO_STACKS_GOAL: Final = Goal(350, unit="ns")
_PEER_GOAL: Final = Goal(0.333)
# struct page_ext and struct page_owner of Linux 6.12
_KERNEL_BYTES: Final = 72
_LOADS: Final = {
    "tmpfs": "tmpfs write and truncate, per page",
    "fork": "fork, touch and exit, per page touched",
}


class Rounds(NamedTuple):
    """How often and how long each load runs."""

    load: int
    compiler: int
    nr_files: int | None
    """C files to compile; None for all."""
    seconds: float


_QUICK: Final = Rounds(load=3, compiler=2, nr_files=4, seconds=0.2)
_WHOLE: Final = Rounds(load=21, compiler=9, nr_files=None, seconds=0.4)


def kernel_table(*, quick: bool) -> Table:
    """Table 10: what tracking costs the machine, next to other ways to do it."""
    if os.geteuid():
        msg = "only root may load BPF programs and trace the whole system"
        raise PageOwnerError(msg)
    rounds = _QUICK if quick else _WHOLE
    others = [mount.mountpoint for mount in read_mounts(ours=True) if mount.source == "kernel"]
    with built_loads(rounds.seconds) as loads:
        rows, notes = _joined(
            [
                _tracker_part(loads, rounds),
                cat_part(quick=quick),
                skip_part(quick=quick),
                start_part(quick=quick),
                idle_part(loads, quick=quick),
            ]
        )
    if others:
        notes.append(f"mounted meanwhile, and costs time if it tracks: {', '.join(others)}")
    return Table("The running kernel: CPU time added by tracking, memory, reading", rows, notes)


def _joined(parts: Sequence[Part]) -> Part:
    return [row for rows, _ in parts for row in rows], [note for _, ns in parts for note in ns]


def _tracker_part(loads: Loads, rounds: Rounds) -> Part:
    with (
        loaded_tracker(KernelOptions()) as stacks,
        loaded_tracker(KernelOptions(free_stacks=False)) as alloc_stacks,
        loaded_tracker(KernelOptions(stack_depth=0)) as no_stacks,
    ):
        peers, missing = working_peers(loads)
        trackers = {_STACKS: stacks, _ALLOC_STACKS: alloc_stacks, _NO_STACKS: no_stacks}
        parts = [
            _fault_part(loads, rounds, trackers, peers),
            ([], missing),
            *(_load_part(loads, rounds, what, stacks) for what in _LOADS),
            _compiler_part(rounds, stacks),
            _lost_part(stacks, peers),
            _memory_part(stacks),
            ([], [f"not seen on this kernel: {unseen}" for unseen in stacks.unseen]),
        ]
    return _joined(parts)


def _fault_part(
    loads: Loads, rounds: Rounds, trackers: Mapping[str, SwitchedTracker], peers: Sequence[Peer]
) -> Part:
    def load() -> float:
        return loads.run("anon").ns_per_page

    runs: dict[str, Callable[[], float]] = {
        name: functools.partial(tracker.run, load) for name, tracker in trackers.items()
    }
    runs |= {peer.name: functools.partial(_peer_ns, peer) for peer in peers}
    found = against_off(rounds.load, load, runs)
    ours, off = found.added(_STACKS), f"{statistics.median(found.off):.0f} ns off"
    rows = [
        limited(f"page faults, {_STACKS}: added per page", ours, "ns", _STACKS_GOAL, off, 0),
        limited(
            f"page faults, {_NO_STACKS}: added per page",
            found.added(_NO_STACKS),
            "ns",
            _NO_STACKS_GOAL,
            off,
            0,
        ),
        *_peer_rows(ours, {peer.name: found.added(peer.name) for peer in peers}),
    ]
    notes = [f"page faults, off: {spread(found.off, 'ns per page')}"]
    notes += [f"faults, {found.describe(name, 'ns')}" for name in runs]
    notes += [peer.describe() for peer in peers]
    notes.append("CPU time of the load alone; a peer's own work on another CPU is not counted")
    return rows, notes


def _peer_ns(peer: Peer) -> float:
    return peer.run().ns_per_page


def _peer_rows(ours: float, added: Mapping[str, float]) -> list[Row]:
    text = f"{ours:.0f} ns"
    rows = [
        compared(f"against {name}", text, f"{peer:.0f} ns", ours / peer)
        for name, peer in added.items()
    ]
    if added:
        cheapest = min(added.values())
        rows.append(
            compared(
                "against the cheapest of these", text, f"{cheapest:.0f} ns", ours / cheapest,
                _PEER_GOAL,
            )
        )  # fmt: skip
    return rows


def _load_part(loads: Loads, rounds: Rounds, what: str, tracker: SwitchedTracker) -> Part:
    pages = 0

    def load() -> float:
        nonlocal pages
        result = loads.run(what)
        pages = result.pages
        return result.ns_per_page

    pages_on = 0

    def load_on() -> float:
        nonlocal pages_on
        value = tracker.run(load)
        pages_on += pages
        return value

    before = tracker.nr_allocations
    found = against_off(rounds.load, load, {what: load_on})
    allocations = (tracker.nr_allocations - before) / pages_on
    off = f"{statistics.median(found.off):.0f} ns off"
    row = limited(_LOADS[what], found.added(what), "ns", _STACKS_GOAL, off, 0)
    note = f"{found.describe(what, 'ns')}; {allocations:.2f} allocations per page"
    return [row], [note]


def _compiler_part(rounds: Rounds, tracker: SwitchedTracker) -> Part:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:

        def load() -> float:
            return compile_files(Path(name), rounds.nr_files)

        found = against_off(rounds.compiler, load, {"gcc": lambda: tracker.run(load)})
    on = statistics.median(run.on for run in found.runs["gcc"])
    row = compared(
        "gcc -O2 -c on the C core: CPU time",
        f"{on:.3f} s",
        f"{statistics.median(found.off):.3f} s off",
        found.ratio("gcc"),
        Goal(1.05),
    )
    return [row], [found.describe("gcc", "s")]


def _lost_part(tracker: SwitchedTracker, peers: Sequence[Peer]) -> Part:
    overwritten = [
        f"{peer.lost / (peer.kept + peer.lost):.1%} overwritten"
        for peer in peers
        if isinstance(peer, Ftrace) and peer.kept
    ]
    rows = [
        limited(
            "events lost, upper bound (ftrace: with its default buffer)",
            tracker.nr_lost,
            "",
            Goal(0),
            "".join(overwritten),
            0,
        ),
        limited("stacks lost or found wrong", tracker.nr_stacks_lost, "", Goal(0), digits=0),
    ]
    note = (
        f"{tracker.nr_events} events; the first copies missed {tracker.nr_missed}, of which the "
        f"second copies saw {tracker.nr_recovered}; {tracker.walked:.2%} of the stacks were found "
        "without unwinding"
    )
    return rows, [note]


def _memory_part(tracker: SwitchedTracker) -> Part:
    per_page = tracker.page_ext_bytes / end_pfn()
    rows = [
        compared(
            "memory per page of the machine, against the kernel's page_owner",
            f"{per_page:.2f} B",
            f"{_KERNEL_BYTES} B",
            per_page / _KERNEL_BYTES,
            Goal(0.9),
        ),
        limited("stack depot (fixed size)", tracker.stack_depot_bytes / 2**20, "MiB", None, "", 0),
    ]
    return rows, [f"page_ext: {tracker.page_ext_bytes} bytes"]
