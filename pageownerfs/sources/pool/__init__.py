"""The pool: shared memory in which processes allocate pages themselves."""

from .source import PoolOptions, PoolSource

__all__ = ["PoolOptions", "PoolSource"]
