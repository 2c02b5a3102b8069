"""The log: standard error in the foreground; otherwise syslog, or else a file."""

from __future__ import annotations

import logging
import logging.handlers
import os
import sys
from pathlib import Path
from typing import Final

_SYSLOG: Final = "/dev/log"
_FORMAT: Final = "pageownerfs[%(process)d]: %(message)s"


def _log_path() -> Path:
    if os.geteuid() == 0:
        return Path("/var/log/pageownerfs.log")
    state = os.environ.get("XDG_STATE_HOME")
    home = Path(state) if state else Path.home() / ".local" / "state"
    return home / "pageownerfs" / "pageownerfs.log"


def _syslog() -> logging.Handler | None:
    if not os.path.exists(_SYSLOG):  # noqa: PTH110
        return None
    try:
        handler = logging.handlers.SysLogHandler(_SYSLOG)
    except OSError:
        return None
    handler.setFormatter(logging.Formatter(_FORMAT))
    return handler


def _file() -> tuple[logging.Handler, str]:
    path = _log_path()
    handler: logging.Handler
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, errors="backslashreplace")
    except OSError:
        # A home directory without write permission, for example, must not prevent the mount.
        return logging.NullHandler(), "none"
    handler.setFormatter(logging.Formatter(f"%(asctime)s {_FORMAT}"))
    return handler, str(path)


def open_log(*, foreground: bool) -> str:
    """
    Set up the log of this package.

    :return: its destination, for status: ``stderr``, ``syslog``, a path, or ``none`` if neither
        syslog nor the file could be opened
    """
    handler: logging.Handler | None
    if foreground:
        handler, where = logging.StreamHandler(sys.stderr), "stderr"
        handler.setFormatter(logging.Formatter(_FORMAT))
    else:
        handler, where = _syslog(), "syslog"
        if handler is None:
            handler, where = _file()
    logger = logging.getLogger("pageownerfs")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    # The binding logs errors, too.
    logging.getLogger("fuse").addHandler(handler)
    return where
