"""
The running kernel as a source: BPF programs (native/bpf) observe its page allocator.

libbpf, /proc and tracefs provide what the programs need to know about the kernel.
"""

from .kind import KIND
from .options import KernelOptions
from .source import KernelSource

__all__ = ["KIND", "KernelOptions", "KernelSource"]
