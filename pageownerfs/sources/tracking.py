"""The row of status about tracking, for sources that can be switched on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pageownerfs.mm.kstrtox import format_size

if TYPE_CHECKING:
    from collections.abc import Mapping


def format_tracking(mount: Mapping[str, Any]) -> str:
    """Return whether tracking is on, and how full the stack depot is."""
    if not mount["page_owner_on"]:
        return "off"
    depth, limit = mount["stack_depth"], format_size(mount["stack_depot_bytes"])
    used = mount["stats"].get("stack_depot_bytes")
    depot = f"{format_size(used)} of {limit}" if used is not None else f"limit {limit}"
    abi = ", kernel_abi" if mount["kernel_abi"] else ""
    return f"on{abi}, {depth} frames, stack depot {depot}"
