"""PID namespaces (pid_namespaces(7)): a number means a process only in the one that gave it."""

from __future__ import annotations

import os
from typing import Final, NamedTuple

_PATH: Final = "/proc/self/ns/pid"
_INITIAL_INODE: Final = 0xEFFFFFFC  # PROC_PID_INIT_INO of include/linux/proc_ns.h


class PidNamespace(NamedTuple):
    """A PID namespace, as bpf_get_ns_current_pid_tgid() takes it."""

    device: int
    """``dev_t`` of the kernel: the minor number has 20 bits."""
    inode: int

    @property
    def is_initial(self) -> bool:
        """Whether it is the machine's own, in which all processes are seen."""
        return self.inode == _INITIAL_INODE


def pid_namespace() -> PidNamespace:
    """Return the namespace of this process; the initial one where the kernel has no others."""
    try:
        found = os.stat(_PATH)  # noqa: PTH116 - slow to import, and wanted by each command
    except OSError:
        return PidNamespace(0, _INITIAL_INODE)
    device = os.major(found.st_dev) << 20 | os.minor(found.st_dev)
    return PidNamespace(device, found.st_ino)
