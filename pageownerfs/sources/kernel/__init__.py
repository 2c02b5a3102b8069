"""
The running kernel as a source: its page allocator, watched by BPF programs (native/bpf).

What the programs need of the kernel is asked through libbpf, /proc and tracefs.
"""

from .kind import KIND
from .options import KernelOptions
from .source import KernelSource

__all__ = ["KIND", "KernelOptions", "KernelSource"]
