"""
Mount a source.

The directory MOUNTPOINT then has page_owner (who allocated each page; there while tracking is on)
and what else is known from it; write 1 to page_owner_on to turn tracking on. FILE may be packed,
and - is standard input. The command returns once the mount answers.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pageownerfs import __version__, stdio
from pageownerfs.daemon import MountOptions
from pageownerfs.daemon import run as run_daemon
from pageownerfs.errors import UsageError
from pageownerfs.sources import SOURCES
from pageownerfs.text.input import STDIN

from .options import options_help, parse_options

if TYPE_CHECKING:
    import argparse

    from pageownerfs.sources.base import SourceKind


def _how(kind: SourceKind[Any]) -> str:
    return f"{kind.name}:FILE" if kind.takes_file else kind.name


_SOURCES_TEXT: Final = ", ".join(map(_how, SOURCES.values()))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare options and operands."""
    parser.add_argument("source", metavar="SOURCE", help=f"what to mount: {_SOURCES_TEXT}")
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", help="an empty directory")
    parser.add_argument(
        "-o", dest="options", metavar="OPTIONS", action="append", default=[], help="see below"
    )
    for kind in SOURCES.values():
        for option in kind.options:
            if option.verb_option:
                parser.add_argument(
                    f"--{option.name}",
                    dest="options",
                    type=f"{option.name}={{}}".format,
                    action="append",
                    metavar=option.metavar,
                    help=f"of {kind.name}: {option.help}",
                )
    parser.add_argument(
        "-f", "--foreground", action="store_true", help="stay in the foreground, log to stderr"
    )
    parser.epilog = (
        "sources:\n"
        + "".join(f"    {_how(kind):12}  {kind.help}\n" for kind in SOURCES.values())
        + "options, as a list with commas; sizes take K, M, G:\n"
        + options_help()
        + "generic options of mount(8) are accepted and ignored\n"
    )


def run(args: argparse.Namespace) -> int:
    """Mount it."""
    kind, path = _split_source(args.source)
    parsed = parse_options(args.options, kind, path)

    def on_ready() -> None:
        if os.getpid() == 1 and not args.foreground:
            stdio.say(
                "pageownerfs: this is the first process of a PID namespace, and the mount ends "
                "with it: use -f, or mount from a shell"
            )
        if not parsed.source.page_owner:
            _say_off(args.mountpoint)

    options = MountOptions(
        kind=kind,
        source_options=parsed.source,
        mountpoint=args.mountpoint,
        version=__version__,
        foreground=args.foreground,
        kernel_abi=parsed.kernel_abi,
        fuse=parsed.fuse,
        output_format=parsed.output_format,
        snapshot_bytes=parsed.snapshot_bytes,
        progress=sys.stderr.isatty(),
    )
    run_daemon(options, on_ready)
    return 0


def _split_source(text: str) -> tuple[SourceKind[Any], str | None]:
    # The file's name is made absolute: the daemon works in another directory.
    name, colon, path = text.partition(":")
    kind = SOURCES.get(name)
    if kind is None:
        msg = (
            f"unknown source or verb {text!r}; sources: {_SOURCES_TEXT}; "
            "pageownerfs --help lists the verbs"
        )
        raise UsageError(msg)
    if not kind.takes_file:
        if colon:
            raise UsageError(f"{name} is not made of a file: write {name}, not {text}")
        return kind, None
    if not path:
        raise UsageError(f"{name} is made of a file: write {name}:FILE, or {name}:- for a pipe")
    return kind, path if path == STDIN else str(Path(path).absolute())


def _say_off(mountpoint: str) -> None:
    switch = shlex.quote(mountpoint.rstrip("/") + "/page_owner_on")
    stdio.say(f"page_owner is off: mount with -o page_owner=on, or echo 1 > {switch}")
