"""Query mounts for their descriptions, with a time limit for daemons that do not answer."""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from pageownerfs.client import XATTR, mount_error, parse_mount
from pageownerfs.errors import NotAPoolError, PageOwnerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ANSWER_SEC: Final = 5.0
"""How long to wait for a daemon's answer."""
_END_SEC: Final = 0.5
_ERRNO_BYTES: Final = 4


class _Question(NamedTuple):
    mountpoint: str
    pid: int
    pipe: int


def ask_mount(mountpoint: str) -> dict[str, Any]:
    """
    Read the description of a mount, as read_mount() does, within ANSWER_SEC.

    :raises PageOwnerError: as read_mount(), or the daemon did not answer in time
    """
    (answer,) = ask_mounts([mountpoint])
    if isinstance(answer, PageOwnerError):
        raise answer
    return answer


def ask_mounts(mountpoints: Iterable[str]) -> list[dict[str, Any] | PageOwnerError]:
    """Query several mounts at once; return each description, or the error of ask_mount()."""
    # A process that waits for FUSE can only be killed, and keeps the mount busy. So child
    # processes do the waiting.
    questions = [_begin(mountpoint) for mountpoint in mountpoints]
    deadline = time.monotonic() + ANSWER_SEC
    answers = [_finish(question, deadline) for question in questions]
    _reap([question.pid for question in questions])
    return answers


def _begin(mountpoint: str) -> _Question:
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        _ask(mountpoint, writable)
    os.close(writable)
    return _Question(mountpoint, pid, readable)


def _ask(mountpoint: str, pipe: int) -> NoReturn:
    # The child, which never returns. It writes an errno, then the text.
    try:
        number, text = 0, b""
        try:
            text = os.getxattr(mountpoint, XATTR)
        except OSError as error:
            number = error.errno or errno.EIO
        with open(pipe, "wb") as file:
            file.write(number.to_bytes(_ERRNO_BYTES, "little") + text)
    finally:
        os._exit(0)


def _finish(question: _Question, deadline: float) -> dict[str, Any] | PageOwnerError:
    where = question.mountpoint
    try:
        answer = _read(question.pipe, deadline)
        if answer is None:
            return NotAPoolError(
                f"{where}: the daemon did not answer within {ANSWER_SEC:.0f} s; it may be "
                "stopped or very busy"
            )
        number = int.from_bytes(answer[:_ERRNO_BYTES], "little")
        if number:
            return mount_error(where, OSError(number, os.strerror(number)))
        return parse_mount(where, answer[_ERRNO_BYTES:])
    except PageOwnerError as error:
        return error
    finally:
        os.close(question.pipe)
        os.kill(question.pid, signal.SIGKILL)


def _read(pipe: int, deadline: float) -> bytes | None:
    parts: list[bytes] = []
    poll = select.poll()
    poll.register(pipe)
    while poll.poll(max(deadline - time.monotonic(), 0) * 1000):
        data = os.read(pipe, 1 << 16)
        if not data:
            return b"".join(parts)
        parts.append(data)
    return None


def _reap(pids: Sequence[int]) -> None:
    # A child whose request the daemon has read can't be killed before the answer: init reaps it.
    left, deadline = list(pids), time.monotonic() + _END_SEC
    while left and time.monotonic() < deadline:
        left = [pid for pid in left if os.waitpid(pid, os.WNOHANG)[0] == 0]
        if left:
            time.sleep(0.005)
