"""Where pages are allocated: each source writes the tables that views read."""

from typing import Final

from pageownerfs.text.progress import Progress, no_progress

from .dump import DumpOptions, DumpSource
from .kernel import KernelOptions, KernelSource
from .pool import PoolOptions, PoolSource
from .trace import TraceOptions, TraceSource

__all__ = [
    "FILE_SOURCES",
    "SOURCES",
    "AnySource",
    "DumpOptions",
    "DumpSource",
    "KernelOptions",
    "KernelSource",
    "PoolOptions",
    "PoolSource",
    "SourceOptions",
    "TraceOptions",
    "TraceSource",
    "make_source",
]

SourceOptions = PoolOptions | KernelOptions | DumpOptions | TraceOptions
"""How to make a source; which of them says which source."""

SOURCES: Final[dict[str, type[SourceOptions]]] = {
    "pool": PoolOptions,
    "kernel": KernelOptions,
    "dump": DumpOptions,
    "trace": TraceOptions,
}
"""Options by the name that is the first word of a mount."""

FILE_SOURCES: Final = frozenset(("dump", "trace"))
"""Those of a file, which is named behind a colon: ``dump:page_owner.txt``."""


AnySource = PoolSource | KernelSource | DumpSource | TraceSource
"""What a mount is made of."""


def make_source(options: SourceOptions, progress: Progress = no_progress) -> AnySource:
    """
    Make the source that the options are of.

    :param progress: called while a file is read, with the bytes read and those there are
    :raises PageOwnerError: it can't be made
    """
    match options:
        case KernelOptions():
            return KernelSource(options)
        case DumpOptions():
            return DumpSource(options, progress)
        case TraceOptions():
            return TraceSource(options, progress)
        case _:
            return PoolSource(options)
