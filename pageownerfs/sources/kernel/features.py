"""
Which programs a kernel takes, and what is not seen without them.

Found out by loading and attaching, newest first; never by a version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from .btf import Btf

TRACKERS: Final = ("page_free", "page_free_again", "page_alloc", "page_alloc_again")
"""Programs that every kernel must take; frees come first: no owner is older than they."""
SCANS: Final = ("calibrate", "find_mem_section", "scan_pages", "scan_early")
"""Programs that the daemon runs itself."""


class Hook(NamedTuple):
    """A program beside the two tracepoints."""

    program: str
    """Its name in page_owner.bpf.c."""
    functions: tuple[str, ...]
    """Functions that it may be attached to, newest first; empty: it names a tracepoint itself."""
    unseen: str
    """What is not seen without it; empty: nothing that another one does not see."""


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
        "splits of blocks: their pages keep the order of the whole",
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
    Hook("migration_entry_set", (), "migration: moved pages are unknown"),
    Hook("migration_entry_removed", (), ""),
)
"""What follows mapped pages where hook_migrate can't."""
REASON: Final = Hook("migrate_start", (), "the reasons of migrations")


class Selection(NamedTuple):
    """Programs to load, and what they need to know."""

    programs: dict[str, str | None]
    """Name -> function, as BpfObject.select() takes it."""
    bulk_array: int
    """Number of alloc_pages_bulk()'s argument page_array."""
    split_order_argument: bool
    """Whether split_page_memcg() has the new order."""


def select_hooks(btf: Btf) -> Selection:
    """Choose the hooks whose functions the kernel has; whether they can be hooked, it will say."""
    programs: dict[str, str | None] = {}
    bulk_array, split_order_argument = 5, False
    for hook in HOOKS:
        function = next((f for f in hook.functions if btf.nr_params(f) is not None), None)
        if function is None:
            continue
        programs[hook.program] = function
        nr_params = btf.nr_params(function)
        if hook.program == "hook_bulk":
            # Up to 6.13 a list comes before the array.
            bulk_array = (nr_params or 6) - 1
        elif function == "split_page_memcg":
            split_order_argument = nr_params == 3
    return Selection(programs, bulk_array, split_order_argument)
