"""
A recording of the page allocator's tracepoints as a source: its events are replayed.

The text is read through the room text; the events are those of include/trace/events/kmem.h.
"""

from .kind import KIND
from .options import TraceOptions
from .source import TraceSource

__all__ = ["KIND", "TraceOptions", "TraceSource"]
