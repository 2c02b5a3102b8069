"""
The pool: shared memory in which processes allocate pages themselves.

The allocator is written in C (native/pool) and mirrors mm/page_alloc.c. client.py is a client's
side of it, this folder the daemon's.
"""

from .kind import KIND
from .options import PoolOptions
from .source import PoolSource

__all__ = ["KIND", "PoolOptions", "PoolSource"]
