"""
The files of the mount, one module each.

A view only reads tables, and queries its source through the protocol sources.base.Source. fs.py
knows views and directories, but nothing about their text. Most files mirror one of mm/page_owner.c
or mm/vmstat.c, which the module names. To add a file, add a module and a line in make_nodes().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pageownerfs.mm.formats import DEFAULT_FORMAT, FORMATS

from . import fragmentation, pagetypeinfo, sort, stats
from .page_owner import PageOwnerView
from .page_owner_on import PageOwnerOnView
from .page_owner_stacks import PageOwnerStacks
from .pages import PagesDirectory
from .record_text import RecordText
from .snapshots import SnapshotsDirectory
from .tree import Tree
from .view import Directory, Node, OpenFile, View, ViewError

if TYPE_CHECKING:
    from pageownerfs.mm.formats import Format
    from pageownerfs.sources.base import Source

__all__ = ["Directory", "Node", "OpenFile", "Tree", "View", "ViewError", "make_tree"]


def make_tree(
    source: Source,
    *,
    kernel_abi: bool = False,
    output_format: Format | None = None,
    snapshot_bytes: int = 0,
) -> Tree:
    """
    Make the root directory of a mount.

    :param kernel_abi: make page_owner behave exactly as the kernel's, not as an ordinary file
    :param output_format: format of records; None for that of a dump, or of Linux 6.12
    :param snapshot_bytes: limit of the memory for all snapshots
    """
    shown_format = output_format or FORMATS[DEFAULT_FORMAT]

    def make_nodes(of: Source, text: RecordText, stacks: PageOwnerStacks) -> dict[str, Node]:
        page_owner = PageOwnerView(of, text, kernel_abi=kernel_abi, output_format=shown_format)
        return {
            "page_owner": page_owner,
            **stacks.nodes(),
            "pages": PagesDirectory(of),
            **pagetypeinfo.nodes(of),
            **fragmentation.nodes(of),
            **sort.nodes(of, text),
            **stats.nodes(of),
        }

    def make_frozen(of: Source) -> dict[str, Node]:
        return make_nodes(of, RecordText(of, output_format), PageOwnerStacks(of, shown_format))

    text, stacks = RecordText(source, output_format), PageOwnerStacks(source, shown_format)

    def forget() -> None:
        text.forget()
        stacks.forget()

    return Tree(
        {
            **make_nodes(source, text, stacks),
            "page_owner_on": PageOwnerOnView(source, forget),
            "snapshots": SnapshotsDirectory(source, make_frozen, snapshot_bytes),
        }
    )
