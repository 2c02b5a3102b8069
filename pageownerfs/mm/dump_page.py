"""
All that is known of one page, as text (__dump_page() of mm/debug.c, __dump_page_owner()).

Here each frame has its file and line, for which page_owner's own format has no room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .gfp import format_gfp, gfp_migratetype
from .migratetype import MIGRATE_REASON_NAMES, MIGRATETYPE_NAMES
from .page_ext import PAGE_EXT_OWNER_ALLOCATED, PAGE_EXT_OWNER_EARLY, PAGE_EXT_OWNER_FREED
from .page_flags import format_page_flags
from .stack_depot import format_source_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .stack_depot import Frame

_NEVER_SET: Final = "page_owner info is not present (never set?)"


def dump_page(
    pfn: int, info: Mapping[str, Any], stack: Callable[[int], Sequence[Frame]] | None
) -> str:
    """
    Tell what is known of a page.

    :param pfn: its page frame number
    :param info: what _native.Pool.page_info() says of it
    :param stack: frames of a handle, innermost first; ValueError where there are none
    :return: lines, each with its newline
    """
    lines = [
        f"page: pfn:{pfn:#x} {info['state']} order:{info['order']} refcount:{info['refcount']}",
        f"pageblock migratetype: {_name(MIGRATETYPE_NAMES, info['migratetype'])}",
        f"flags: {format_page_flags(info['flags'])}",
    ]
    if info["head"] != pfn:
        lines.append(f"head: pfn:{info['head']:#x}")
    text = "\n".join(lines) + "\n"
    owner = info["page_owner"]
    if owner is None or stack is None:
        return text + "page_owner is disabled\n"
    return text + _dump_page_owner(owner, stack)


def _dump_page_owner(owner: Mapping[str, Any], stack: Callable[[int], Sequence[Frame]]) -> str:
    if not owner["handle"]:
        return _NEVER_SET + "\n"
    comm = owner["comm"].decode("utf-8", "backslashreplace")
    tracked = "allocated" if owner["state"] & PAGE_EXT_OWNER_ALLOCATED else "freed"
    early = " before tracking began" if owner["state"] & PAGE_EXT_OWNER_EARLY else ""
    migratetype = _name(MIGRATETYPE_NAMES, gfp_migratetype(owner["gfp_mask"]))
    text = (
        f"page_owner tracks the page as {tracked}{early}\n"
        f"page last allocated via order {owner['order']}, migratetype {migratetype}, "
        f"gfp_mask {format_gfp(owner['gfp_mask'])}, pid {owner['pid']}, "
        f"tgid {owner['tgid']} ({comm}), ts {owner['ts_nsec']}, free_ts {owner['free_ts_nsec']}\n"
        + _source_lines(owner["handle"], stack)
    )
    if owner["last_migrate_reason"] >= 0:
        reason = _name(MIGRATE_REASON_NAMES, owner["last_migrate_reason"])
        text += f"page has been migrated, last migrate reason: {reason}\n"
    if not owner["state"] & PAGE_EXT_OWNER_FREED or not owner["free_handle"]:
        return text + "page_owner free stack trace missing\n"
    return (
        text
        + f"page last free pid {owner['free_pid']} tgid {owner['free_tgid']} stack trace:\n"
        + _source_lines(owner["free_handle"], stack)
    )


def _source_lines(handle: int, stack: Callable[[int], Sequence[Frame]]) -> str:
    try:
        return format_source_lines(stack(handle)).decode(errors="backslashreplace")
    except ValueError as error:
        return f" ({error})\n"


def _name(names: Sequence[str], index: int) -> str:
    return names[index] if 0 <= index < len(names) else f"{index}?"
