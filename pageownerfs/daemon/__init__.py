"""
The background process: start, readiness, signals and end, and how other processes query it.

The daemon combines a source of a SourceKind, its views and the mount. The commands use this room.
It knows no command, and no source by name.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING, Final, NoReturn

from pageownerfs.client import read_mount
from pageownerfs.errors import MountError, PageOwnerError, UsageError
from pageownerfs.fs import load_binding

from .checks import check_all
from .log import open_log
from .mounts import resolve_mountpoint
from .serve import Daemon, MountOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

_log = logging.getLogger(__name__)

__all__ = ["MountOptions", "run"]

# The child writes this to the pipe when the mount is ready. Other text in the pipe says why the
# mount failed, except lines of progress, which end in:
_READY: Final = b"\0"
_PROGRESS: Final = b"\r"
# Clears the line of the cursor.
_CLEAR_LINE: Final = "\r\033[K"


def run(options: MountOptions, on_ready: Callable[[], None]) -> None:
    """
    Mount; return when the mount answers or, in the foreground, when it has ended.

    :param on_ready: called when the mount answers
    :raises PageOwnerError: mounting failed; nothing is left of the attempt
    """
    options = options._replace(mountpoint=resolve_mountpoint(options.mountpoint))
    check_all(options.mountpoint, options.kind)
    binding = load_binding()
    if options.foreground:
        log = open_log(foreground=True)
        Daemon(options, log, on_ready, _show_progress).serve(binding)
        return
    sys.stdout.flush()
    sys.stderr.flush()
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(readable)
        _background(options, binding, writable)
    os.close(writable)
    try:
        _wait_for(pid, readable, options.mountpoint)
    except KeyboardInterrupt:
        os.kill(pid, signal.SIGTERM)
        raise
    on_ready()


def _background(options: MountOptions, binding: ModuleType, pipe: int) -> NoReturn:
    # The child. libfuse and fusermount write error messages to standard error, here the pipe.
    status = 1
    try:
        os.setsid()
        os.chdir("/")
        os.dup2(pipe, 2)
        _to_null(1)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))

        def on_ready() -> None:
            os.write(2, _READY)
            _to_null(0, 2)

        def show_progress(line: str) -> None:
            os.write(2, line.encode() + _PROGRESS)

        Daemon(options, open_log(foreground=False), on_ready, show_progress).serve(binding)
        status = 0
    except PageOwnerError as error:
        os.write(2, f"{error}\n".encode(errors="backslashreplace"))
        status = error.exit_code
    except BaseException as error:  # noqa: BLE001 - nothing may return into the parent's code
        _log.critical("the daemon failed", exc_info=True)
        os.write(2, f"{_unforeseen(error)}\n".encode(errors="backslashreplace"))
    finally:
        os._exit(status)


def _unforeseen(error: BaseException) -> str:
    # An unexpected exception; its traceback is in the log.
    where = traceback.extract_tb(error.__traceback__)[-1].name
    reason = error.strerror if isinstance(error, OSError) else None
    return (
        f"the daemon failed in {where}() ({type(error).__name__}: {reason or error}): please "
        "report this line and the log"
    )


def _show_progress(line: str) -> None:
    with contextlib.suppress(OSError):
        sys.stderr.write(_CLEAR_LINE + line)
        sys.stderr.flush()


def _to_null(*descriptors: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(null, descriptor)
    os.close(null)


def _wait_for(pid: int, pipe: int, mountpoint: str) -> None:
    text, shown = b"", False
    with open(pipe, "rb", buffering=0) as stream:
        while _READY not in text:
            data = stream.read(4096)
            if not data:
                break
            # Text after the last mark may become another line of progress.
            *lines, text = (text + data).split(_PROGRESS)
            for line in lines:
                shown = True
                _show_progress(line.decode())
    if shown:
        _show_progress("")
    if _READY in text:
        mount = read_mount(mountpoint)
        if mount["pid"] != pid:
            msg = f"{mountpoint}: pid {mount['pid']} mounted here at the same time"
            raise MountError(msg)
        return
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    # libfuse's lines come first, then the daemon's.
    reasons = text.decode(errors="backslashreplace").splitlines()
    if code < 0:
        reasons.append(f"the daemon was killed by signal {-code}")
    kind = UsageError if code == UsageError.exit_code else MountError
    raise kind("; ".join(reasons) or f"the daemon ended with exit code {code}")
