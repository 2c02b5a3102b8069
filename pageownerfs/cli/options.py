"""The options of a mount: ``-o`` lists, from the command line, mount(8) or an fstab line."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pageownerfs.errors import UsageError
from pageownerfs.mm.kstrtox import kstrtobool, memparse
from pageownerfs.sources import SOURCES, SourceOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_MAX_STACK_DEPTH: Final = 64
_MAX_PID: Final = 1 << 22  # PID_MAX_LIMIT
_MAX_ORDER: Final = 10
_COMM_BYTES: Final = 15


def _number(low: int, high: int, what: str) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            msg = f"{text!r} is not {what} from {low} to {high}"
            raise ValueError(msg)
        return int(text)

    return parse


def _parse_comm(text: str) -> bytes:
    comm = os.fsencode(text)
    if not 0 < len(comm) <= _COMM_BYTES:
        msg = f"{text!r} is not a thread's name of 1 to {_COMM_BYTES} bytes"
        raise ValueError(msg)
    return comm


class _Option(NamedTuple):
    field: str
    """Of the source's options."""
    parse: Callable[[str], Any]
    metavar: str
    help: str


_PAGE_OWNER: Final = _Option("page_owner", kstrtobool, "on|off", "track owners (default: off)")

OPTIONS: Final = {
    "pool": {
        "page_owner": _PAGE_OWNER,
        "size": _Option(
            "size_bytes", memparse, "SIZE", "memory of the pool (1G, or 1/4 of /dev/shm if less)"
        ),
        "movablecore": _Option("movablecore_bytes", memparse, "SIZE", "part in zone Movable (0)"),
        "cma": _Option("cma_bytes", memparse, "SIZE", "part of zone Normal in CMA blocks (0)"),
        "stack_depth": _Option(
            "stack_depth",
            _number(1, _MAX_STACK_DEPTH, "a number of frames"),
            "N",
            "frames kept of a stack, 1-64 (16)",
        ),
        "stack_depot": _Option("stack_depot_bytes", memparse, "SIZE", "limit of all stacks (32M)"),
    },
    "kernel": {
        "page_owner": _PAGE_OWNER,
        "pid": _Option(
            "pid", _number(1, _MAX_PID, "a process id"), "PID", "track this process or thread only"
        ),
        "comm": _Option("comm", _parse_comm, "NAME", "track threads of this name only"),
        "order": _Option(
            "order", _number(0, _MAX_ORDER, "an order"), "N", "track this order only, 0-10"
        ),
        "stack_depth": _Option(
            "stack_depth",
            _number(0, _MAX_STACK_DEPTH, "a number of frames"),
            "N",
            "frames kept of a stack, 0-64 (16)",
        ),
        "stack_depot": _Option(
            "stack_depot_bytes", memparse, "SIZE", "memory for all stacks (16M)"
        ),
        "user_stacks": _Option(
            "user_stacks", kstrtobool, "on|off", "add the stack of the process (off)"
        ),
        "hooks": _Option(
            "hooks", kstrtobool, "on|off", "see more than tracepoints show, by fentry (on)"
        ),
    },
}
"""Options with a value, by source and name."""

FLAGS: Final = {
    "kernel_abi": "page_owner to the letter of the kernel's: one record per read, size 0",
    "allow_other": "other users may see the mount, as far as modes allow",
    "allow_root": "root may see a user's mount",
}
"""Options without a value."""

# For mount(8), systemd or libfuse; not for us. "ro" is passed on: the kernel enforces it.
_IGNORED: Final = frozenset(
    (
        *("rw", "dev", "nodev", "suid", "nosuid", "exec", "noexec", "auto", "noauto", "user"),
        *("nouser", "users", "owner", "group", "nofail", "_netdev", "defaults", "async", "sync"),
        *("dirsync", "atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime"),
        *("strictatime", "nostrictatime", "lazytime", "nolazytime", "iversion", "noiversion"),
        *("mand", "nomand", "silent", "loud", "fsname", "subtype", "comment", "uid", "gid"),
        *("default_permissions",),
    )
)


class ParsedOptions(NamedTuple):
    """What a list of mount options says."""

    source: SourceOptions
    """How to make the source."""
    kernel_abi: bool
    """Whether page_owner follows the kernel to the letter."""
    fuse: tuple[str, ...]
    """Options for libfuse."""


def parse_options(lists: Iterable[str], source: str = "pool") -> ParsedOptions:
    """
    Parse ``-o`` lists; of an option given twice the last holds.

    ``user_stacks`` may be given without its ``=on``.

    :param source: what is to be mounted
    :param lists: each ``name,name=value,...``
    :raises UsageError: an unknown option, with those known; a value that can't be
    """
    known = OPTIONS[source]
    values: dict[str, Any] = {}
    flags: dict[str, bool] = {}
    for item in (item.strip() for text in lists for item in text.split(",")):
        name, equals, value = item.partition("=")
        if name == "user_stacks" and name in known and not equals:
            values[name] = True
        elif name in known:
            values[known[name].field] = _value(name, known[name], equals, value)
        elif name in FLAGS or name in ("ro", "rw"):
            if equals:
                msg = f"-o {name} takes no value: write {name}, not {item}"
                raise UsageError(msg)
            flags["ro" if name == "rw" else name] = name != "rw"
        elif item and name not in _IGNORED and not name.startswith(("x-", "X-")):
            raise UsageError(_unknown(name, source))
    fuse = tuple(name for name in ("allow_other", "allow_root", "ro") if flags.get(name))
    if "allow_other" in fuse and "allow_root" in fuse:
        msg = "-o allow_other and -o allow_root exclude each other: give one"
        raise UsageError(msg)
    return ParsedOptions(SOURCES[source](**values), flags.get("kernel_abi", False), fuse)


def _value(name: str, option: _Option, equals: str, value: str) -> object:
    if not equals:
        msg = f"-o {name} needs a value: {name}={option.metavar}"
        raise UsageError(msg)
    try:
        return option.parse(value)
    except ValueError as error:
        msg = f"-o {name}: {error}"
        raise UsageError(msg) from error


def _unknown(name: str, source: str) -> str:
    known = [f"{key}={option.metavar}" for key, option in OPTIONS[source].items()]
    others = [other for other, options in OPTIONS.items() if name in options]
    of = f"; it is one of {', '.join(others)}" if others else ""
    return (
        f"unknown option -o {name} for {source}{of}; known: "
        f"{', '.join([*known, *FLAGS, 'ro'])}, and the generic ones of mount(8)"
    )


def options_help() -> str:
    """List the options, for --help."""
    parts = [
        (f"of {source}:", [(f"{key}={o.metavar}", o.help) for key, o in options.items()])
        for source, options in OPTIONS.items()
    ]
    parts.append(("of both:", [*FLAGS.items(), ("ro", "page_owner_on can't be written")]))
    width = max(len(left) for _, lines in parts for left, _ in lines)
    return "".join(
        f"  {title}\n" + "".join(f"    {left:{width}}  {right}\n" for left, right in lines)
        for title, lines in parts
    )
