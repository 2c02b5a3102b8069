"""
A saved page_owner of any kernel as a source.

The room text reads the text, and native/text loads the records.
"""

from .kind import KIND
from .options import DumpOptions
from .source import DumpSource

__all__ = ["KIND", "DumpOptions", "DumpSource"]
