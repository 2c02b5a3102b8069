"""The running kernel as a source: its page allocator, watched by BPF programs."""

from .options import KernelOptions
from .source import KernelSource

__all__ = ["KernelOptions", "KernelSource"]
