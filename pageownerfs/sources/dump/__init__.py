"""
A saved page_owner of any kernel as a source.

The text is read through the room text, and loaded by native/text.
"""

from .kind import KIND
from .options import DumpOptions
from .source import DumpSource

__all__ = ["KIND", "DumpOptions", "DumpSource"]
