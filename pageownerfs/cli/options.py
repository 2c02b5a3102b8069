"""The options of a mount: ``-o`` lists, from the command line, mount(8) or an fstab line."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pageownerfs.errors import UsageError
from pageownerfs.mm.formats import FORMATS, Format
from pageownerfs.mm.kstrtox import kstrtobool, memparse
from pageownerfs.sources import SOURCES, SourceOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_MAX_STACK_DEPTH: Final = 64
_MAX_PID: Final = 1 << 22  # PID_MAX_LIMIT
_MAX_ORDER: Final = 10
_COMM_BYTES: Final = 15
_MAX_BYTES: Final = 1 << 62


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


def _parse_zones(text: str) -> tuple[str, ...]:
    names = tuple(text.split(":"))
    if not all(re.fullmatch("[A-Za-z0-9_]{1,16}", name) for name in names):
        msg = f"{text!r} is not a list of zones: write their names with colons, as DMA:Normal"
        raise ValueError(msg)
    return names


def _parse_seconds(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text):
        msg = f"{text!r} is not a time of the trace: write seconds, as in 13.433116"
        raise ValueError(msg)
    seconds, _, part = text.partition(".")
    return int(seconds) * 10**9 + int(part.ljust(9, "0"))


def _parse_limit(text: str) -> int:
    return min(memparse(text), _MAX_BYTES)


def _parse_always_on(text: str) -> None:
    if not kstrtobool(text):
        msg = "what is recorded has owners: leave it out, or write page_owner=on"
        raise ValueError(msg)


def _parse_format(text: str) -> Format:
    if text not in FORMATS:
        msg = f"{text!r} is not a format: write one of {', '.join(FORMATS)}"
        raise ValueError(msg)
    return FORMATS[text]


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
    "dump": {
        "zones": _Option(
            "zone_names",
            _parse_zones,
            "NAMES",
            "zones by number (DMA:DMA32:Normal:Movable:Device)",
        ),
    },
    "trace": {
        "until": _Option(
            "until_nsec", _parse_seconds, "TS", "replay up to this time of the trace, in seconds"
        ),
    },
}
"""Options with a value, by source and name."""

COMMON: Final = {
    "format": _Option(
        "output_format",
        _parse_format,
        "FORMAT",
        "records as Linux 6.1, 6.12 or next has them (6.12)",
    ),
    "snapshots": _Option(
        "snapshot_bytes", _parse_limit, "SIZE", "memory for all snapshots (256M)"
    ),
}
"""Options with a value of all sources."""

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


DEFAULT_SNAPSHOT_BYTES: Final = 256 << 20


class ParsedOptions(NamedTuple):
    """What a list of mount options says."""

    source: SourceOptions
    """How to make the source."""
    kernel_abi: bool
    """Whether page_owner follows the kernel to the letter."""
    fuse: tuple[str, ...]
    """Options for libfuse."""
    output_format: Format | None = None
    """Of records; None: as they were printed, or 6.12."""
    snapshot_bytes: int = DEFAULT_SNAPSHOT_BYTES
    """Memory for all snapshots."""


def parse_options(
    lists: Iterable[str], source: str = "pool", path: str | None = None
) -> ParsedOptions:
    """
    Parse ``-o`` lists; of an option given twice the last holds.

    ``user_stacks`` may be given without its ``=on``.

    :param source: what is to be mounted
    :param path: of the file that it is made of
    :param lists: each ``name,name=value,...``
    :raises UsageError: an unknown option, with those known; a value that can't be
    """
    known = OPTIONS[source]
    values: dict[str, Any] = {} if path is None else {"path": path}
    common: dict[str, Any] = {}
    flags: dict[str, bool] = {}
    for item in (item.strip() for text in lists for item in text.split(",")):
        name, equals, value = item.partition("=")
        if name == "user_stacks" and name in known and not equals:
            values[name] = True
        elif name in known:
            values[known[name].field] = _value(name, known[name], equals, value)
        elif name in COMMON:
            common[COMMON[name].field] = _value(name, COMMON[name], equals, value)
        elif path is not None and name == "page_owner":
            _value(name, _PAGE_OWNER._replace(parse=_parse_always_on), equals, value)
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
    made = SOURCES[source](**values)
    return ParsedOptions(made, flags.get("kernel_abi", False), fuse, **common)


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
    options = OPTIONS[source] | COMMON
    known = [f"{key}={option.metavar}" for key, option in options.items()]
    others = [other for other, theirs in OPTIONS.items() if name in theirs]
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
    common = [(f"{key}={option.metavar}", option.help) for key, option in COMMON.items()]
    parts.append(("of all:", [*common, *FLAGS.items(), ("ro", "nothing can be written")]))
    width = max(len(left) for _, lines in parts for left, _ in lines)
    return "".join(
        f"  {title}\n" + "".join(f"    {left:{width}}  {right}\n" for left, right in lines)
        for title, lines in parts
    )
