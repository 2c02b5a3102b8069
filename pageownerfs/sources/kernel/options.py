"""Options of the kernel source."""

from typing import Final, NamedTuple

from pageownerfs.mm.kstrtox import kstrtobool, memparse
from pageownerfs.mm.page_ext import PID_MAX_LIMIT
from pageownerfs.mm.stack_depot import STACKDEPOT_MAX_FRAMES
from pageownerfs.mm.zone import MAX_PAGE_ORDER
from pageownerfs.sources.options import PAGE_OWNER, Option, number_parser

from .cgroup import parse_cgroup
from .comm_filter import CommPatterns, parse_comm


class KernelOptions(NamedTuple):
    """Options of the kernel source: what to track, and how."""

    page_owner: bool = False
    """Track owners from the start."""
    stack_depth: int = 16
    """Frames to keep of a call stack, 0..64."""
    stack_depot_bytes: int = 16 << 20
    """Memory of the stack depot."""
    pid: int | None = None
    """Track only allocations of this thread or process; None for all."""
    comm: CommPatterns | None = None
    """Track only allocations of threads with these names; None for all."""
    cgroup: str | None = None
    """Track only allocations of tasks in this cgroup or below it; None for all."""
    order: int | None = None
    """Track only allocations of this order; None for all."""
    free_stacks: bool = True
    """Record the call stack of a free, too."""
    user_stacks: bool = False
    """Append the task's user stack to the kernel stack."""
    hooks: bool = True
    """Also hook functions (fentry), if the kernel allows it."""

    @property
    def has_filter(self) -> bool:
        """Whether only some allocations are tracked."""
        return any(value is not None for value in (self.pid, self.comm, self.cgroup, self.order))


OPTIONS: Final = (
    PAGE_OWNER,
    Option(
        "pid",
        "pid",
        number_parser(1, PID_MAX_LIMIT, "a process id"),
        "PID",
        "track only this process or thread",
    ),
    Option(
        "comm",
        "comm",
        parse_comm,
        "NAME[:NAME...]",
        "track only threads of these names; * matches any bytes",
    ),
    Option(
        "cgroup",
        "cgroup",
        parse_cgroup,
        "PATH",
        "track only tasks in this cgroup (v2) or below it",
    ),
    Option(
        "order",
        "order",
        number_parser(0, MAX_PAGE_ORDER, "an order"),
        "N",
        f"track only this order, 0-{MAX_PAGE_ORDER}",
    ),
    Option(
        "stack_depth",
        "stack_depth",
        number_parser(0, STACKDEPOT_MAX_FRAMES, "a number of frames"),
        "N",
        f"frames to keep of a call stack, 0-{STACKDEPOT_MAX_FRAMES} (16)",
    ),
    Option("stack_depot", "stack_depot_bytes", memparse, "SIZE", "memory of stacks (16M)"),
    Option(
        "free_stacks",
        "free_stacks",
        kstrtobool,
        "on|off",
        "record the stacks of frees (on)",
    ),
    Option(
        "user_stacks",
        "user_stacks",
        kstrtobool,
        "on|off",
        "also record the user stack (off)",
        implied="on",
    ),
    Option(
        "hooks",
        "hooks",
        kstrtobool,
        "on|off",
        "also hook kernel functions with fentry (on)",
    ),
)
"""The options as a user writes them."""
