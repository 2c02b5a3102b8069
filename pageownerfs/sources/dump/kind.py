"""A saved page_owner as a source."""

from __future__ import annotations

from typing import Final

from pageownerfs.sources.base import SourceKind
from pageownerfs.sources.recorded import status_rows

from .options import OPTIONS, DumpOptions
from .source import DumpSource

KIND: Final = SourceKind(
    name="dump",
    help="a saved page_owner",
    takes_file=True,
    options_type=DumpOptions,
    options=OPTIONS,
    make=DumpSource,
    status_rows=status_rows,
)
