"""The options of a mount: ``-o`` lists, from the command line, mount(8) or an fstab line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pageownerfs.errors import UsageError
from pageownerfs.mm.kstrtox import kstrtobool, memparse
from pageownerfs.sources import PoolOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_MAX_STACK_DEPTH: Final = 64


def _parse_depth(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MAX_STACK_DEPTH:
        msg = f"{text!r} is not a number of frames from 1 to {_MAX_STACK_DEPTH}"
        raise ValueError(msg)
    return int(text)


class _Option(NamedTuple):
    field: str
    """Of PoolOptions."""
    parse: Callable[[str], Any]
    metavar: str
    help: str


POOL_OPTIONS: Final = {
    "page_owner": _Option("page_owner", kstrtobool, "on|off", "track owners (default: off)"),
    "size": _Option(
        "size_bytes", memparse, "SIZE", "memory of the pool (1G, or 1/4 of /dev/shm if less)"
    ),
    "movablecore": _Option("movablecore_bytes", memparse, "SIZE", "part in zone Movable (0)"),
    "cma": _Option("cma_bytes", memparse, "SIZE", "part of zone Normal in CMA blocks (0)"),
    "stack_depth": _Option("stack_depth", _parse_depth, "N", "frames kept of a stack, 1-64 (16)"),
    "stack_depot": _Option("stack_depot_bytes", memparse, "SIZE", "limit of all stacks (32M)"),
}
"""Options with a value, by name."""

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

    pool: PoolOptions
    """How to make the pool."""
    kernel_abi: bool
    """Whether page_owner follows the kernel to the letter."""
    fuse: tuple[str, ...]
    """Options for libfuse."""


def parse_options(lists: Iterable[str]) -> ParsedOptions:
    """
    Parse ``-o`` lists; of an option given twice the last holds.

    :param lists: each ``name,name=value,...``
    :raises UsageError: an unknown option, with those known; a value that can't be
    """
    pool: dict[str, Any] = {}
    flags: dict[str, bool] = {}
    for item in (item.strip() for text in lists for item in text.split(",")):
        name, equals, value = item.partition("=")
        if name in POOL_OPTIONS:
            pool[POOL_OPTIONS[name].field] = _value(name, equals, value)
        elif name in FLAGS or name in ("ro", "rw"):
            if equals:
                msg = f"-o {name} takes no value: write {name}, not {item}"
                raise UsageError(msg)
            flags["ro" if name == "rw" else name] = name != "rw"
        elif item and name not in _IGNORED and not name.startswith(("x-", "X-")):
            raise UsageError(_unknown(name))
    fuse = tuple(name for name in ("allow_other", "allow_root", "ro") if flags.get(name))
    if "allow_other" in fuse and "allow_root" in fuse:
        msg = "-o allow_other and -o allow_root exclude each other: give one"
        raise UsageError(msg)
    return ParsedOptions(PoolOptions(**pool), flags.get("kernel_abi", False), fuse)


def _value(name: str, equals: str, value: str) -> object:
    option = POOL_OPTIONS[name]
    if not equals:
        msg = f"-o {name} needs a value: {name}={option.metavar}"
        raise UsageError(msg)
    try:
        return option.parse(value)
    except ValueError as error:
        msg = f"-o {name}: {error}"
        raise UsageError(msg) from error


def _unknown(name: str) -> str:
    known = [f"{key}={option.metavar}" for key, option in POOL_OPTIONS.items()]
    return (
        f"unknown option -o {name}; known: {', '.join([*known, *FLAGS, 'ro'])}, "
        "and the generic ones of mount(8)"
    )


def options_help() -> str:
    """List the options, for --help."""
    lines = [(f"{key}={o.metavar}", o.help) for key, o in POOL_OPTIONS.items()]
    lines += [*FLAGS.items(), ("ro", "page_owner_on can't be written")]
    width = max(len(left) for left, _ in lines)
    return "".join(f"  {left:{width}}  {right}\n" for left, right in lines)
