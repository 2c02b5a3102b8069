"""
The files of the mount: what each one says.

A view only reads tables, and asks its source through the protocol sources.base.Source; fs.py knows
views and directories, and nothing of what they say. Most files mirror one of mm/page_owner.c or
mm/vmstat.c, which each module names. A new file of the mount is one module, and one line in
make_nodes().
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
    Make the root of a mount.

    :param kernel_abi: page_owner as the kernel has it, to the letter, instead of an ordinary file
    :param output_format: of records; None: as they were printed, or as Linux 6.12 prints
    :param snapshot_bytes: memory that copies may take
    """

    def make_nodes(of: Source) -> dict[str, Node]:
        shown_format = output_format or FORMATS[DEFAULT_FORMAT]
        text = RecordText(of, output_format)
        page_owner = PageOwnerView(of, text, kernel_abi=kernel_abi, output_format=shown_format)
        return {
            "page_owner": page_owner,
            **PageOwnerStacks(of, shown_format).nodes(),
            "pages": PagesDirectory(of),
            **pagetypeinfo.nodes(of),
            **fragmentation.nodes(of),
            **sort.nodes(of, text),
            **stats.nodes(of),
        }

    return Tree(
        {
            **make_nodes(source),
            "page_owner_on": PageOwnerOnView(source),
            "snapshots": SnapshotsDirectory(source, make_nodes, snapshot_bytes),
        }
    )
