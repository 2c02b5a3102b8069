"""
A recording of the page allocator's tracepoints as a source: replay its events.

The room text reads the text. The events are those of include/trace/events/kmem.h.
"""

from .kind import KIND
from .options import TraceOptions
from .source import TraceSource

__all__ = ["KIND", "TraceOptions", "TraceSource"]
