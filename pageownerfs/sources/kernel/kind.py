"""The running kernel as a source: its rows of status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pageownerfs.mm.kstrtox import format_size
from pageownerfs.sources.base import Row, SourceKind
from pageownerfs.sources.tracking import format_tracking

from .checks import check_all
from .doctor import diagnose
from .options import OPTIONS, KernelOptions
from .source import KernelSource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pageownerfs.text.progress import Progress


def status_rows(mount: Mapping[str, Any]) -> list[Row]:
    """Return the rows of status for the values of KernelSource.describe()."""
    if not mount["page_owner_on"]:
        return [("page_owner", "off, nothing is loaded")]
    stats = mount["stats"]
    tracking = format_tracking(mount) + ("" if mount["free_stacks"] else ", no free stacks")
    rows = [
        ("page_owner", tracking),
        (
            "pages",
            f"{stats['pages_allocated']} allocated, {stats['pages_early']} early or unknown",
        ),
        ("memory", f"{format_size(mount['size_bytes'])} for records"),
        ("programs", ", ".join(mount["programs"])),
        ("not seen", "; ".join(mount["unseen"]) or "nothing known"),
    ]
    if mount["filter"]:
        shown = ", ".join(f"{name}={value}" for name, value in mount["filter"].items())
        rows.append(("filter", f"{shown}; other pages are not tracked"))
    return rows


def _make(options: KernelOptions, progress: Progress) -> KernelSource:
    del progress
    return KernelSource(options)


KIND: Final = SourceKind(
    name="kernel",
    help="the pages of the running kernel",
    options_type=KernelOptions,
    options=OPTIONS,
    check=check_all,
    make=_make,
    status_rows=status_rows,
    diagnose=diagnose,
)
