"""
Mount a source.

The directory MOUNTPOINT then has the files page_owner (who allocated each page; there while
tracking is on), page_owner_on (write 1 to turn tracking on) and stats. The command returns once
the mount answers.
"""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

from pageownerfs import __version__
from pageownerfs.daemon import MountOptions
from pageownerfs.daemon import run as run_daemon
from pageownerfs.errors import UsageError
from pageownerfs.sources import SOURCES

from .options import options_help, parse_options

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare options and operands."""
    parser.add_argument("source", metavar="SOURCE", help="what to mount: " + ", ".join(SOURCES))
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", help="an empty directory")
    parser.add_argument(
        "-o", dest="options", metavar="OPTIONS", action="append", default=[], help="see below"
    )
    parser.add_argument(
        "-f", "--foreground", action="store_true", help="stay in the foreground, log to stderr"
    )
    parser.epilog = (
        "options, as a list with commas; sizes take K, M, G:\n"
        + options_help()
        + "generic options of mount(8) are accepted and ignored\n"
    )


def run(args: argparse.Namespace) -> int:
    """Mount it."""
    if args.source not in SOURCES:
        msg = (
            f"unknown source or verb {args.source!r}; sources: {', '.join(SOURCES)}; "
            "pageownerfs --help lists the verbs"
        )
        raise UsageError(msg)
    parsed = parse_options(args.options, args.source)

    def on_ready() -> None:
        if not parsed.source.page_owner:
            _say_off(args.mountpoint)

    options = MountOptions(
        source=args.source,
        mountpoint=args.mountpoint,
        version=__version__,
        foreground=args.foreground,
        kernel_abi=parsed.kernel_abi,
        fuse=parsed.fuse,
        source_options=parsed.source,
    )
    run_daemon(options, on_ready)
    return 0


def _say_off(mountpoint: str) -> None:
    switch = shlex.quote(mountpoint.rstrip("/") + "/page_owner_on")
    print(
        f"page_owner is off: mount with -o page_owner=on, or echo 1 > {switch}",
        file=sys.stderr,
    )
