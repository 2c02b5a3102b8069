"""
Describe one page as text: __dump_page() of mm/debug.c and __dump_page_owner().

Unlike in page_owner, each stack frame shows its source file and line where they are known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from .gfp import gfp_migratetype
from .migratetype import MIGRATETYPE_NAMES
from .page_flags import format_page_flags
from .stack_depot import format_source_lines
from .vocabulary import VOCABULARY, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .page_ext import PageOwner
    from .stack_depot import Frame


PAGE_STATES: Final = ("free", "buddy", "pcp", "allocated", "tail", "reserved")
"""
States of a page in a pool, by number.

free: inside a free block. buddy: head of a free block. pcp: held by a client, on its order-0 list
or on the way to or from it. allocated: head of an allocated block. tail: another page of an
allocated block. reserved: never allocated.
"""


class PageInfo(NamedTuple):
    """State of one page of a pool, read without a lock."""

    state: str
    """One of PAGE_STATES, or ``corrupt``."""
    order: int
    """Order of the block that the page is the head of."""
    refcount: int
    """Reference count; 0 unless the page is the head of an allocated block."""
    flags: int
    """``page->flags``."""
    migratetype: int
    """Migratetype of the pageblock."""
    head: int
    """PFN of the first page of the page's block."""
    zone: int
    """Number of the page's zone."""
    page_owner: PageOwner | None
    """The page's record; None if page_owner is off."""


def dump_page(pfn: int, info: PageInfo, stack: Callable[[int], Sequence[Frame]] | None) -> str:
    """
    Describe a page of a pool.

    :param pfn: page frame number
    :param info: the page's state
    :param stack: returns the frames of a handle, innermost first; raises ValueError for an
        unknown handle. None: page_owner is off
    :return: lines, each with its newline
    """
    migratetype = info.migratetype
    known = 0 <= migratetype < len(MIGRATETYPE_NAMES)
    lines = [
        f"page: pfn:{pfn:#x} {info.state} order:{info.order} refcount:{info.refcount}",
        f"pageblock migratetype: {MIGRATETYPE_NAMES[migratetype] if known else f'{migratetype}?'}",
        f"flags: {format_page_flags(info.flags)}",
    ]
    if info.head != pfn:
        lines.append(f"head: pfn:{info.head:#x}")
    text = "\n".join(lines) + "\n"
    owner = info.page_owner
    if owner is None or stack is None:
        return text + "page_owner is disabled\n"
    page_mt = gfp_migratetype(owner.gfp_mask)

    def source_lines(handle: int) -> bytes:
        return format_source_lines(stack(handle))

    dumped = dump_page_owner(owner, VOCABULARY, source_lines, page_mt=page_mt)
    return text + dumped.decode(errors="backslashreplace")


def dump_page_owner(
    owner: PageOwner,
    vocabulary: Vocabulary,
    stack: Callable[[int], bytes],
    *,
    page_mt: int,
) -> bytes:
    """
    Describe who allocated a page and who freed it last.

    Mirrors __dump_page_owner() of mm/page_owner.c.

    :param owner: the page's record
    :param vocabulary: names of the numbers in the record
    :param stack: returns the lines of a handle, innermost frame first; raises ValueError for an
        unknown handle
    :param page_mt: migratetype that the gfp mask asks for
    :return: lines, each with its newline
    """
    if not owner.handle:
        return b"page_owner info is not present (never set?)\n"
    tracked = "allocated" if owner.is_allocated else "freed"
    early = " before tracking began" if owner.is_early else ""
    head = (
        f"page_owner tracks the page as {tracked}{early}\n"
        f"page last allocated via order {owner.order}, "
        f"migratetype {_named(vocabulary.migratetype_name, page_mt)}, "
        f"gfp_mask {_named(vocabulary.format_gfp, owner.gfp_mask)}, pid {owner.pid}, "
        f"tgid {owner.tgid} ("
    )
    text = head.encode(errors="surrogateescape") + owner.comm
    text += b"), ts %d, free_ts %d\n" % (owner.ts_nsec, owner.free_ts_nsec)
    text += _lines(owner.handle, stack)
    if owner.last_migrate_reason >= 0:
        reason = _named(vocabulary.migrate_reason_name, owner.last_migrate_reason)
        text += f"page has been migrated, last migrate reason: {reason}\n".encode()
    if not owner.is_freed:
        return text + b"page_owner free stack trace missing\n"
    freed = b"page last free pid %d tgid %d" % (owner.free_pid, owner.free_tgid)
    if not owner.free_handle:
        return text + freed + b", its stack trace was not recorded\n"
    return text + freed + b" stack trace:\n" + _lines(owner.free_handle, stack)


def _lines(handle: int, stack: Callable[[int], bytes]) -> bytes:
    try:
        return stack(handle)
    except ValueError as error:
        return b" (%b)\n" % str(error).encode(errors="backslashreplace")


def _named(name: Callable[[int], str], number: int) -> str:
    try:
        return name(number)
    except ValueError:
        return f"{number}?"
