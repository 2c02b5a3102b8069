"""Errors of the kernel source: the step that failed, and what to do about it."""

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
"""Advice if the kernel would interpret programs, which can't call back from bpf_loop()."""


def _advice(number: int | None) -> str:
    if number in (errno.EPERM, errno.EACCES):
        # A seccomp filter returns these, whatever the capabilities are.
        return "in a container, use --privileged, or --security-opt seccomp=unconfined"
    if number == errno.ENOMEM:
        return "free memory"
    if number == _ENOTSUPP:
        return JIT_ADVICE
    return f"use a newer pageownerfs, or report this line (Linux {os.uname().release})"


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """
    Turn an OSError of a step into a MountError.

    :param what: the step, as in "the kernel source failed while ..."
    :raises MountError: an OSError was raised: names the step, the reason, and what to do
    """
    try:
        yield
    except OSError as error:
        raise MountError(
            f"the kernel source failed while {what} ({error.strerror or error}): "
            f"{_advice(error.errno)}"
        ) from error
