"""
The programs that a kernel may accept, and what is not seen without them.

The tracker finds out by loading and attaching, newest first, never by a version.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from .perf_event import open_tracepoint

if TYPE_CHECKING:
    from .btf import Btf


class Trackers(NamedTuple):
    """
    The required programs: two copies for each of the two tracepoints.

    Frees are attached first, so that no tracked page misses its free.
    """

    free: str
    free_again: str
    alloc: str
    alloc_again: str


RAW: Final = Trackers("page_free", "page_free_again", "page_alloc", "page_alloc_again")
"""For kernels that call raw programs with preemption off: they cost less."""
CALLED_BY_PERF: Final = RAW._replace(free="page_free_tp", alloc="page_alloc_tp")
"""For kernels that call raw programs with preemption on."""
PREEMPTED: Final = "events of a CPU where a task is preempted inside a BPF program"
"""What RAW does not see on the latter."""
SCANS: Final = ("calibrate", "find_mem_section", "scan_pages", "scan_early")
"""Programs that the daemon itself runs."""


class Hook(NamedTuple):
    """An optional program."""

    program: str
    """Name of the program in page_owner.bpf.c."""
    functions: tuple[str, ...]
    """Functions that it may attach to, newest first; empty if it names a tracepoint itself."""
    unseen: str
    """What is not seen without it; empty if other programs see it."""


HOOKS: Final = (
    Hook(
        "hook_bulk",
        ("alloc_pages_bulk_noprof", "__alloc_pages_bulk"),
        "bulk allocations: vmalloc, thread stacks, pipes, network buffers",
    ),
    Hook(
        "hook_contig",
        ("alloc_contig_frozen_range_noprof", "alloc_contig_range_noprof", "alloc_contig_range"),
        "contiguous ranges: gigantic pages, CMA",
    ),
    Hook(
        "hook_split",
        ("split_page_memcg", "split_page"),
        "splits of blocks: the pages keep the order of the whole block",
    ),
    Hook("hook_split_folio", ("folio_split_memcg_refs",), ""),
    Hook(
        "hook_migrate",
        ("folio_migrate_flags",),
        "migration of pages that are not mapped (page cache), and of whole huge pages",
    ),
)
"""fentry and fexit programs."""

MIGRATION: Final = (
    Hook("migration_entry_set", (), "migration: migrated pages are unknown"),
    Hook("migration_entry_removed", (), ""),
)
"""Programs that follow migrated pages that are mapped, if hook_migrate is not accepted."""
REASON: Final = Hook("migrate_start", (), "migrate reasons")


def select_trackers(btf: Btf) -> tuple[Trackers, str]:
    """
    Select the required programs.

    :return: the programs, and what is not seen with them
    """
    # Since Linux 7.0, SRCU protects a tracepoint's programs, where preemption was off before. BTF
    # has the guard's typedef only if the kernel uses the guard.
    if not btf.has_typedef("class_srcu_fast_notrace_t"):
        return RAW, ""
    try:
        os.close(open_tracepoint("kmem/mm_page_alloc"))
    except OSError as error:
        return RAW, f"{PREEMPTED} ({error.strerror})"
    return CALLED_BY_PERF, ""


class Selection(NamedTuple):
    """Programs to load, and constants that they need."""

    programs: dict[str, str | None]
    """Name -> function, as BpfObject.select() takes them."""
    bulk_array: int
    """Index of alloc_pages_bulk()'s argument page_array."""
    split_order_argument: bool
    """Whether split_page_memcg() has the new order as an argument."""


def select_hooks(btf: Btf) -> Selection:
    """Select the hooks whose functions the kernel has; loading shows which it accepts."""
    programs: dict[str, str | None] = {}
    bulk_array, split_order_argument = 5, False
    for hook in HOOKS:
        function = next((f for f in hook.functions if btf.nr_params(f) is not None), None)
        if function is None:
            continue
        programs[hook.program] = function
        nr_params = btf.nr_params(function)
        if hook.program == "hook_bulk":
            # Up to 6.13, a list argument comes before the array.
            bulk_array = (nr_params or 6) - 1
        elif function == "split_page_memcg":
            split_order_argument = nr_params == 3
    return Selection(programs, bulk_array, split_order_argument)
