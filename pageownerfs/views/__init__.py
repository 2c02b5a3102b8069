"""
The files of the mount: what each one says.

A view only reads tables, and asks its source through the Source protocol; fs.py knows views and
nothing else. A new file of the mount is one module with a class that follows View, and one line
in make_views().
"""

from .page_owner import PageOwnerView
from .page_owner_on import PageOwnerOnView
from .pagetypeinfo import PagetypeinfoView
from .stats import StatsView
from .view import OpenFile, Source, View, ViewError

__all__ = ["OpenFile", "Source", "View", "ViewError", "make_views"]


def make_views(source: Source, *, kernel_abi: bool = False) -> dict[str, View]:
    """
    Make every file of the mount, by path.

    :param kernel_abi: page_owner as the kernel has it, to the letter, instead of an ordinary file
    """
    views: list[View] = [
        PageOwnerView(source, kernel_abi=kernel_abi),
        PageOwnerOnView(source),
        PagetypeinfoView(source),
        StatsView(source),
    ]
    return {view.path: view for view in views}
