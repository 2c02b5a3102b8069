"""Layouts of page_owner.bpf.o's maps, which native/kernel_source.h and page_scan.h define."""

from __future__ import annotations

import ctypes
from typing import Final

STACK_WAYS: Final = 4
STACK_RESERVED_BUCKETS: Final = 8
HANDLE_EARLY: Final = 30
"""Stack handle of early pages."""
HANDLE_FAILURE: Final = 31
"""Stack handle of pages whose own stack could not be stored."""
NR_RESERVED_HANDLES: Final = STACK_WAYS * STACK_RESERVED_BUCKETS
STACK_NODE_BYTES: Final = 16

NR_PROGRAMS: Final = 16
NR_COUNTERS: Final = 24
MAX_STACK_DEPTH: Final = 68
STACK_WINDOW_WORDS: Final = 512
CALIBRATION_PAGES: Final = 128
PAGE_SCAN_BATCH: Final = 1024
CGROUP_NAME_BYTES: Final = 80
COMM_WORDS: Final = 4

PAGE_MEMCG_SLAB: Final = 1
"""Bit of page_info.memcg: the page belongs to a slab cache."""
PAGE_MEMCG_KMEM: Final = 2
"""Bit of page_info.memcg: the page is charged as kernel memory."""
PAGE_MEMCG_ONLINE: Final = 4
"""Bit of page_info.memcg: the cgroup has not been removed."""
PAGE_MEMCG_ID_SHIFT: Final = 3
"""Lowest bit of the number of the cgroup's kernfs node in page_info.memcg."""

_u8, _u16 = ctypes.c_uint8, ctypes.c_uint16
_u32, _u64, _s32 = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int32

COUNTERS: Final = (
    *(
        "events",
        "tail_pages",
        "filtered",
        "recovered",
        "untracked",
        "out_of_range",
        "stack_walked",
    ),
    *("stack_unwound", "stack_checked", "stack_wrong", "stack_unclear", "stack_unsteady"),
    *("stack_failed", "stack_depot_full"),
)
"""Names of ``enum counter``, in its order."""


class KernelConfig(ctypes.Structure):
    """``struct kernel_config``: constants of the programs."""

    _fields_ = (
        ("nr_stack_buckets", _u32),
        ("stack_depth", _u32),
        ("free_stacks", _u32),
        ("stack_walk", _u32),
        ("stack_check_every", _u32),
        ("text_high", _u32),
        ("filter_pid", _s32),
        ("filter_order", _s32),
        ("filter_comm", _u32),
        ("filter_cgroup", _u32),
        ("user_depth", _u32),
        ("bulk_array", _u32),
        ("pageblock_order", _u32),
        ("section_shift", _u32),
        ("split_order_argument", _u32),
        ("padding", _u32),
        ("pid_ns_dev", _u64),
        ("pid_ns_ino", _u64),
    )


class CommFilter(ctypes.Structure):
    """``struct comm_filter``: the thread names that the filter lets pass."""

    _fields_ = (
        ("advance", _u64 * COMM_WORDS * 256),
        ("start", _u64 * COMM_WORDS),
        ("stay", _u64 * COMM_WORDS),
        ("end", _u64 * COMM_WORDS),
    )


class KernelAddresses(ctypes.Structure):
    """``struct kernel_addresses``: addresses of kernel tables that programs have found."""

    _fields_ = (("vmemmap_base", _u64), ("mem_section", _u64))


class Unwinding(ctypes.Structure):
    """``struct unwinding``: a stack that is being stored in the stack depot."""

    _fields_ = (
        ("context", _u64),
        ("position", _u64),
        ("nr", _u32),
        ("words", _u32),
        ("frame", _u32),
        ("number", _u32),
        ("located", _u32),
        ("complete", _u32),
        ("certain", _u32),
        ("padding", _u32),
    )


class CpuState(ctypes.Structure):
    """``struct cpu_state``: state of one program on one CPU."""

    _fields_ = (
        ("context", _u64),
        ("counter", _u64 * NR_COUNTERS),
        ("unwinding", Unwinding),
        ("ip", _u64 * MAX_STACK_DEPTH),
        ("window", _u64 * STACK_WINDOW_WORDS),
        ("low", _u16 * MAX_STACK_DEPTH),
        ("high", _u16 * MAX_STACK_DEPTH),
        ("padding", _u16 * 12),
    )


class ScanRequest(ctypes.Structure):
    """``struct scan_request``: what to scan, and the result."""

    _fields_ = (
        ("start", _u64),
        ("end", _u64),
        ("next", _u64),
        ("pid_tgid", _u64),
        ("nr_marked", _u64),
        ("nr_stale", _u64),
        ("nr_suspects", _u64),
        ("again", _u32),
        ("owners_only", _u32),
        ("tgid", _u32),
        ("nr_pages", _u32),
        ("page", _u64 * CALIBRATION_PAGES),
    )


class PageInfo(ctypes.Structure):
    """``struct page_info``: data of a page from struct page."""

    _fields_ = (
        ("flags", _u64),
        ("memcg", _u64),
        ("pageblock_migratetype", _u8),
        ("padding", _u8 * 7),
    )


class PageScan(ctypes.Structure):
    """``struct page_scan``: a batch of pages to read."""

    _fields_ = (
        ("nr", _u32),
        ("padding", _u32),
        ("pfn", _u64 * PAGE_SCAN_BATCH),
        ("info", PageInfo * PAGE_SCAN_BATCH),
    )
