"""
``pages/PFN``: everything known about one page, in the style of __dump_page() of mm/debug.c.

Every page can be opened by its number, decimal or with 0x. The directory lists the first pages of
allocated blocks, but only some of them if there are many, because listing looks up each name
(``ls -l`` does so twice).
"""

from __future__ import annotations

import functools
import re
import threading
from typing import TYPE_CHECKING, Final

from pageownerfs.mm.dump_page import dump_page_owner
from pageownerfs.mm.page_ext import PageExt

from .owner_process import owner_process
from .text import TextView
from .view import Directory

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pageownerfs.sources.base import Source

    from .view import Node

NR_ALL_LISTED: Final = 5000
"""All allocated blocks are listed if there are no more than this."""
NR_SOME_LISTED: Final = 1024
"""Otherwise this many are listed: those with the lowest PFNs, without early pages."""
_NR_VIEWS: Final = 64
_PFN_BITS: Final = 64
_PFN: Final = re.compile("0x[0-9a-fA-F]{1,16}|[0-9]{1,20}")
_STATES: Final = {
    "buddy": "free, first page of a free block",
    "pcp": "free, held by a client",
    "tail": "allocated",
}
"""Descriptions of a pool's page states; other states are shown as they are."""


class PagesDirectory(Directory):
    """The directory ``pages``; mode 0500."""

    mode = 0o500

    def __init__(self, source: Source) -> None:
        """Show the pages of ``source``."""
        self._source = source
        self._lock = threading.Lock()
        self._views: dict[int, TextView] = {}

    def absent(self) -> str | None:
        """Return why the directory is absent: tracking is off."""
        return self._source.lacks("owners")

    def names(self) -> Iterable[str]:
        """List allocated blocks by their first pages."""
        table = self._source.table()
        heads = table.heads(0, NR_ALL_LISTED + 1)
        if len(heads) > NR_ALL_LISTED:
            heads = table.heads(0, NR_SOME_LISTED, False)
        return map(hex, heads)

    def lookup(self, name: str) -> Node | None:
        """Find any page of the table, whether allocated, free, or inside a block."""
        if not _PFN.fullmatch(name):
            return None
        pfn = int(name, 16) if name.startswith("0x") else int(name)
        if pfn >> _PFN_BITS or not self._is_there(pfn):
            return None
        with self._lock:
            view = self._views.pop(pfn, None)
            if view is None:
                make = functools.partial(page_text, self._source, pfn)
                view = TextView(self._source, make, "owners")
            # Keep the newest views: a program that asks for a size soon asks again.
            self._views[pfn] = view
            if len(self._views) > _NR_VIEWS:
                del self._views[next(iter(self._views))]
            return view

    def _is_there(self, pfn: int) -> bool:
        if self._source.table().has_page(pfn):
            return True
        # A snapshot, a dump or a trace may lack a record of a page that is not allocated.
        return any(zone.start_pfn <= pfn < zone.end_pfn for zone in self._source.zones())


def page_text(source: Source, pfn: int) -> bytes:
    """Format the text of one page."""
    page = PageExt.of(source.table(), pfn)
    if page is None:
        return b"page: pfn:%#x has no record: not allocated, or not recorded\n" % pfn
    owner = page.owner
    text = _page_lines(source, pfn, page)
    text += dump_page_owner(
        owner,
        source.vocabulary,
        lambda handle: source.stack_text(handle, source_lines=True),
        page_mt=page.page_mt,
    )
    if page.allocated and page.memcg:
        text += source.memcg_lines(page.memcg)
    boot_nsec = source.boot_nsec
    if page.allocated and not owner.is_early and boot_nsec is not None:
        text += owner_process(owner.tgid, owner.ts_nsec + boot_nsec).encode() + b"\n"
    return text


def _page_lines(source: Source, pfn: int, page: PageExt) -> bytes:
    state = dict(source.page_state(pfn))
    what = state.pop("state", None) or ("allocated" if page.allocated else "free")
    what = _STATES.get(what, what)
    more = "".join(f" {name}:{value}" for name, value in state.items())
    vocabulary = source.vocabulary
    lines = [f"page: pfn:{pfn:#x} {what}{more}"]
    if page.allocated:
        lines.append(
            f"block: pfn:{page.head:#x} order:{page.owner.order} ({page.owner.nr_pages} pages)"
            + (f", offset {pfn - page.head}" if pfn != page.head else "")
        )
    lines += [
        f"pageblock migratetype: {vocabulary.migratetype_name(page.pageblock_mt)}",
        f"flags: {vocabulary.format_page_flags(page.flags)}",
    ]
    return "".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")
