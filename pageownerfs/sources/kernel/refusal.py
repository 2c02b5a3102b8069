"""Why a kernel does not take the kernel source: at which step, and what to do about it."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Final

from pageownerfs.errors import MountError

if TYPE_CHECKING:
    from collections.abc import Iterator

_ENOTSUPP: Final = 524  # of the kernel alone (include/linux/errno.h): C libraries have no text
JIT_ADVICE: Final = "switch BPF's JIT on (sysctl net.core.bpf_jit_enable=1)"
"""What to do where the kernel would interpret programs: it can't call back from bpf_loop()."""


def _advice(number: int | None) -> str:
    if number in (errno.EPERM, errno.EACCES):
        # A filter of system calls says so, whatever the rights are.
        return "in a container, allow it (--privileged, or --security-opt seccomp=unconfined)"
    if number == errno.ENOMEM:
        return "free memory"
    if number == _ENOTSUPP:
        return JIT_ADVICE
    return f"take a newer pageownerfs, or report this line (Linux {os.uname().release})"


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """
    Say at which step the kernel refuses.

    :param what: what is being done, as in "the kernel source fails while ..."
    :raises MountError: in place of an OSError: the step, the reason, what to do
    """
    try:
        yield
    except OSError as error:
        raise MountError(
            f"the kernel source fails while {what} ({error.strerror or error}): "
            f"{_advice(error.errno)}"
        ) from error
