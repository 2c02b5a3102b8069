"""A saved page_owner."""

from .source import DumpOptions, DumpSource

__all__ = ["DumpOptions", "DumpSource"]
