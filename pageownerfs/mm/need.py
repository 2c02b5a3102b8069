"""What a file of the mount may need of its source, and the source may lack."""

from typing import Final, Literal

Need = Literal["owners", "pid", "tgid", "free_areas", "pagetypeinfo", "switch"]
"""
Owners that are tracked now, with pid, with tgid and comm; free blocks by zone; pageblocks by
migratetype; that tracking can be switched on.
"""

PAGE_OWNER_OFF: Final = "page_owner is off"
"""Why there are no owners, until somebody writes 1 to page_owner_on."""
