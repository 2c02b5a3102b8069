"""
Sources of pages; each fills the tables that views read.

A source is a folder of this room with a SourceKind named KIND, and an entry in this file. base.py
defines what a source provides. Sources use mm, text, client and the C core, never views or the
mount.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from . import dump, kernel, pool, trace

if TYPE_CHECKING:
    from .base import SourceKind

__all__ = ["SOURCES"]

SOURCES: Final[dict[str, SourceKind[Any]]] = {
    kind.name: kind for kind in (pool.KIND, kernel.KIND, dump.KIND, trace.KIND)
}
"""All kinds of sources by name, the first word of ``pageownerfs SOURCE MOUNTPOINT``."""
