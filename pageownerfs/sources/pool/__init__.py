"""
The pool: shared memory in which processes allocate pages themselves.

The allocator is C (native/pool), a client's side of it client.py; here is the daemon's. In the
kernel it is mm/page_alloc.c.
"""

from .kind import KIND
from .options import PoolOptions
from .source import PoolSource

__all__ = ["KIND", "PoolOptions", "PoolSource"]
