"""Where pages are allocated: each source writes the tables that views read."""

from .pool import PoolOptions, PoolSource

__all__ = ["SOURCES", "PoolOptions", "PoolSource"]

SOURCES = {"pool": PoolSource}
"""By the name that is the first word of a mount."""
