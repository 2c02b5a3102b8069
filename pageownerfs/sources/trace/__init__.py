"""A recorded trace of the page allocator as a source: its text, replayed to its end."""

from .replay import Replay, TracedPage, replay
from .source import TraceOptions, TraceSource

__all__ = ["Replay", "TraceOptions", "TraceSource", "TracedPage", "replay"]
