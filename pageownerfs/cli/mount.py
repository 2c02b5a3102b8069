"""
Mount a source.

MOUNTPOINT/page_owner lists who allocated each page; other files summarize it. Tracking is on with
-o page_owner=on, or after writing 1 to MOUNTPOINT/page_owner_on. FILE may be compressed with gzip,
xz or zstd; - is standard input. The command returns when the mount is ready.
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
    """Declare the options and operands."""
    parser.add_argument("source", metavar="SOURCE", help=f"one of {_SOURCES_TEXT}")
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", help="an empty directory")
    parser.add_argument(
        "-o",
        dest="options",
        metavar="OPTIONS",
        action="append",
        default=[],
        help="comma-separated mount options, listed below",
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
                    help=f"{option.help} (only {kind.name})",
                )
    parser.add_argument(
        "-f", "--foreground", action="store_true", help="stay in the foreground, log to stderr"
    )
    parser.epilog = (
        "sources:\n"
        + "".join(f"    {_how(kind):12}  {kind.help}\n" for kind in SOURCES.values())
        + "mount options; sizes take a suffix K, M, G or T:\n"
        + options_help()
        + "Generic options of mount(8) are accepted and ignored.\n"
    )


def run(args: argparse.Namespace) -> int:
    """Mount the source."""
    kind, path = _split_source(args.source)
    parsed = parse_options(args.options, kind, path)

    def on_ready() -> None:
        if os.getpid() == 1 and not args.foreground:
            stdio.say(
                "pageownerfs: this is the first process of a PID namespace, and the mount ends "
                "when it exits; use -f, or mount from a shell"
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
    # Make the file's name absolute, because the daemon changes its directory.
    name, colon, path = text.partition(":")
    kind = SOURCES.get(name)
    if kind is None:
        msg = (
            f"unknown source or verb {text!r}; sources are {_SOURCES_TEXT}; "
            "pageownerfs --help lists the verbs"
        )
        raise UsageError(msg)
    if not kind.takes_file:
        if colon:
            raise UsageError(f"source {name!r} takes no file: write {name!r}, not {text!r}")
        return kind, None
    if not path:
        raise UsageError(
            f"source {name!r} needs a file: write {name}:FILE, or {name}:- for standard input"
        )
    return kind, path if path == STDIN else str(Path(path).absolute())


def _say_off(mountpoint: str) -> None:
    switch = shlex.quote(mountpoint.rstrip("/") + "/page_owner_on")
    stdio.say(f"page_owner is off; turn it on with -o page_owner=on, or echo 1 > {switch}")
