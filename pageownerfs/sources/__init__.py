"""Where pages are allocated: each source writes the tables that views read."""

from typing import Final

from .kernel import KernelOptions, KernelSource
from .pool import PoolOptions, PoolSource

__all__ = [
    "SOURCES",
    "KernelOptions",
    "KernelSource",
    "PoolOptions",
    "PoolSource",
    "SourceOptions",
    "make_source",
]

SourceOptions = PoolOptions | KernelOptions
"""How to make a source; which of them says which source."""

SOURCES: Final[dict[str, type[SourceOptions]]] = {"pool": PoolOptions, "kernel": KernelOptions}
"""Options by the name that is the first word of a mount."""


def make_source(options: SourceOptions) -> PoolSource | KernelSource:
    """
    Make the source that the options are of.

    :raises PageOwnerError: it can't be made
    """
    if isinstance(options, KernelOptions):
        return KernelSource(options)
    return PoolSource(options)
