"""The running kernel as a source: its page allocator, watched by BPF programs."""

from .source import KernelOptions, KernelSource

__all__ = ["KernelOptions", "KernelSource"]
