"""PID namespaces (pid_namespaces(7)): a pid is valid only in the namespace that it comes from."""

from __future__ import annotations

import os
from typing import Final, NamedTuple

_PATH: Final = "/proc/self/ns/pid"
_INITIAL_INODE: Final = 0xEFFFFFFC  # PROC_PID_INIT_INO of include/linux/proc_ns.h


class PidNamespace(NamedTuple):
    """A PID namespace, in the form that bpf_get_ns_current_pid_tgid() takes."""

    device: int
    """``dev_t`` as in the kernel, with a minor number of 20 bits."""
    inode: int

    @property
    def is_initial(self) -> bool:
        """Whether it is the machine's initial namespace, which contains all processes."""
        return self.inode == _INITIAL_INODE


def pid_namespace() -> PidNamespace:
    """Return the namespace of this process; the initial one if the kernel has no namespaces."""
    try:
        found = os.stat(_PATH)  # noqa: PTH116 - pathlib is slow to import, and every command calls this
    except OSError:
        return PidNamespace(0, _INITIAL_INODE)
    device = os.major(found.st_dev) << 20 | os.minor(found.st_dev)
    return PidNamespace(device, found.st_ino)
