"""Mount options: ``-o`` lists from the command line, mount(8) or a line of fstab."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pageownerfs.errors import UsageError
from pageownerfs.mm.formats import FORMATS, Format
from pageownerfs.mm.kstrtox import memparse
from pageownerfs.sources import SOURCES
from pageownerfs.sources.options import Option

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pageownerfs.sources.base import SourceKind, SourceOptions

_MAX_BYTES: Final = 1 << 62


def _parse_limit(text: str) -> int:
    return min(memparse(text), _MAX_BYTES)


def _parse_format(text: str) -> Format:
    if text not in FORMATS:
        msg = f"{text!r} is not a format; formats are {', '.join(FORMATS)}"
        raise ValueError(msg)
    return FORMATS[text]


COMMON: Final = (
    Option(
        "format",
        "output_format",
        _parse_format,
        "FORMAT",
        "format of records: that of Linux 6.1, 6.12 or next (6.12)",
    ),
    Option(
        "snapshots", "snapshot_bytes", _parse_limit, "SIZE", "memory limit of all snapshots (256M)"
    ),
)
"""Options with a value that all sources take."""

FLAGS: Final = {
    "kernel_abi": "exact behaviour of the kernel's page_owner: one record per read, size 0",
    "allow_other": "let other users see the mount, as far as modes allow",
    "allow_root": "let root see a user's mount",
}
"""Options without a value."""

# Options for mount(8), systemd or libfuse. "ro" is passed on: the kernel enforces it.
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
    """The values of a list of mount options."""

    source: SourceOptions
    """Options of the source."""
    kernel_abi: bool
    """Whether page_owner behaves exactly as the kernel's."""
    fuse: tuple[str, ...]
    """Options for libfuse."""
    output_format: Format | None = None
    """Format of records; None for that of a dump, or of Linux 6.12."""
    snapshot_bytes: int = DEFAULT_SNAPSHOT_BYTES
    """Limit of the memory for all snapshots."""


def parse_options(
    lists: Iterable[str], kind: SourceKind[Any], path: str | None = None
) -> ParsedOptions:
    """
    Parse ``-o`` lists; if an option is given twice, the last value counts.

    :param lists: lists, each ``name,name=value,...``
    :param kind: kind of the source to mount
    :param path: file of a source that takes one
    :raises UsageError: an option is unknown (the message lists the known ones), or a value is
        wrong
    """
    own = {option.name: option for option in kind.options}
    common = {option.name: option for option in COMMON}
    values: dict[str, Any] = {} if path is None else {"path": path}
    common_values: dict[str, Any] = {}
    flags: dict[str, bool] = {}
    for item in (item.strip() for text in lists for item in text.split(",")):
        name, equals, value = item.partition("=")
        given = value if equals else None
        if name in own:
            values[own[name].field] = _value(own[name], given)
        elif name in common:
            common_values[common[name].field] = _value(common[name], given)
        elif name in FLAGS or name in ("ro", "rw"):
            if equals:
                msg = f"-o {name} takes no value: write {name}, not {item}"
                raise UsageError(msg)
            flags["ro" if name == "rw" else name] = name != "rw"
        elif item and name not in _IGNORED and not name.startswith(("x-", "X-")):
            raise UsageError(_unknown(name, kind))
    fuse = tuple(name for name in ("allow_other", "allow_root", "ro") if flags.get(name))
    if "allow_other" in fuse and "allow_root" in fuse:
        msg = "-o allow_other and -o allow_root exclude each other; use only one"
        raise UsageError(msg)
    made = kind.options_type(**values)
    return ParsedOptions(made, flags.get("kernel_abi", False), fuse, **common_values)


def _value(option: Option, given: str | None) -> object:
    text = option.implied if given is None else given
    if text is None:
        msg = f"-o {option.name} needs a value: {option.name}={option.metavar}"
        raise UsageError(msg)
    try:
        return option.parse(text)
    except ValueError as error:
        msg = f"-o {option.name}: {error}"
        raise UsageError(msg) from error


def _unknown(name: str, kind: SourceKind[Any]) -> str:
    known = [f"{option.name}={option.metavar}" for option in (*kind.options, *COMMON)]
    others = [
        other.name
        for other in SOURCES.values()
        if name in {option.name for option in other.options}
    ]
    of = f" (it is an option of {', '.join(others)})" if others else ""
    return (
        f"unknown option -o {name} for source {kind.name!r}{of}; known options: "
        f"{', '.join([*known, *FLAGS, 'ro'])}, and the generic ones of mount(8)"
    )


def _lines(options: Iterable[Option]) -> list[tuple[str, str]]:
    return [(f"{option.name}={option.metavar}", option.help) for option in options]


def options_help() -> str:
    """Return the list of options for --help."""
    parts = [(f"{kind.name}:", _lines(kind.options)) for kind in SOURCES.values()]
    parts.append(("all sources:", [*_lines(COMMON), *FLAGS.items(), ("ro", "mount read-only")]))
    width = max(len(left) for _, lines in parts for left, _ in lines)
    return "".join(
        f"  {title}\n" + "".join(f"    {left:{width}}  {right}\n" for left, right in lines)
        for title, lines in parts
    )
