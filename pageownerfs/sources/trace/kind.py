"""A recording of the page allocator's events as a source."""

from __future__ import annotations

from typing import Final

from pageownerfs.sources.base import SourceKind
from pageownerfs.sources.recorded import status_rows

from .options import OPTIONS, TraceOptions
from .source import TraceSource

KIND: Final = SourceKind(
    name="trace",
    help="a text recording of the page allocator's events",
    takes_file=True,
    options_type=TraceOptions,
    options=OPTIONS,
    make=TraceSource,
    status_rows=status_rows,
)
