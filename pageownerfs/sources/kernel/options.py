"""Options of the kernel source."""

import os
from typing import Final, NamedTuple

from pageownerfs.mm.kstrtox import kstrtobool, memparse
from pageownerfs.mm.page_ext import PID_MAX_LIMIT, TASK_COMM_LEN
from pageownerfs.mm.stack_depot import STACKDEPOT_MAX_FRAMES
from pageownerfs.mm.zone import MAX_PAGE_ORDER
from pageownerfs.sources.options import PAGE_OWNER, Option, number_parser


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


def _parse_comm(text: str) -> bytes:
    comm = os.fsencode(text)
    if not 0 < len(comm) < TASK_COMM_LEN:
        raise ValueError(f"{text!r} is not a thread's name of 1 to {TASK_COMM_LEN - 1} bytes")
    return comm


OPTIONS: Final = (
    PAGE_OWNER,
    Option(
        "pid",
        "pid",
        number_parser(1, PID_MAX_LIMIT, "a process id"),
        "PID",
        "track this process or thread only",
    ),
    Option("comm", "comm", _parse_comm, "NAME", "track threads of this name only"),
    Option(
        "order",
        "order",
        number_parser(0, MAX_PAGE_ORDER, "an order"),
        "N",
        f"track this order only, 0-{MAX_PAGE_ORDER}",
    ),
    Option(
        "stack_depth",
        "stack_depth",
        number_parser(0, STACKDEPOT_MAX_FRAMES, "a number of frames"),
        "N",
        f"frames kept of a stack, 0-{STACKDEPOT_MAX_FRAMES} (16)",
    ),
    Option("stack_depot", "stack_depot_bytes", memparse, "SIZE", "memory for all stacks (16M)"),
    Option(
        "user_stacks",
        "user_stacks",
        kstrtobool,
        "on|off",
        "add the stack of the process (off)",
        implied="on",
    ),
    Option(
        "hooks",
        "hooks",
        kstrtobool,
        "on|off",
        "see more than tracepoints show, by fentry (on)",
    ),
)
"""As they are written."""
