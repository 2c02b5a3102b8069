"""Options of the kernel source."""

from typing import NamedTuple


class KernelOptions(NamedTuple):
    """What to track, and how; None: anything."""

    page_owner: bool = False
    """Track from the mount on."""
    stack_depth: int = 16
    """Frames kept of a call stack, 0..64."""
    stack_depot_bytes: int = 16 << 20
    """Memory of the stack depot."""
    pid: int | None = None
    """Only allocations of this thread, or of a thread of this process."""
    comm: bytes | None = None
    """Only allocations of threads with this name."""
    order: int | None = None
    """Only allocations of this order."""
    user_stacks: bool = False
    """Add the user stack of the task below the kernel's."""
    hooks: bool = True
    """Also hook functions, where the kernel lets them be (fentry)."""

    @property
    def has_filter(self) -> bool:
        """Whether only a part is tracked."""
        return (self.pid, self.comm, self.order) != (None, None, None)
