"""Capabilities of a source that files of the mount depend on."""

from typing import Final, Literal

Need = Literal["owners", "pid", "tgid", "free_areas", "pagetypeinfo", "switch"]
"""
A capability that a source may lack.

owners: tracking is on. pid: records have a pid. tgid: records have a tgid and a comm. free_areas:
the free blocks of each zone are known. pagetypeinfo: the pageblocks of each migratetype are known.
switch: tracking can be switched on and off.
"""

PAGE_OWNER_OFF: Final = "page_owner is off"
"""Why a source lacks owners until somebody writes 1 to page_owner_on."""
