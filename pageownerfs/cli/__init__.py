"""
The command ``pageownerfs``: one verb, one module.

``pageownerfs SOURCE MOUNTPOINT ...``, the order that mount(8) uses, is short for
``pageownerfs mount SOURCE MOUNTPOINT ...``. main() alone prints errors and chooses exit codes;
errors.py lists them.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Protocol

from pageownerfs import __version__
from pageownerfs.errors import PageOwnerError

from . import alloc, doctor, mount, status, umount

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXIT_INTERRUPTED = 130


class Command(Protocol):
    """A verb: a module whose docstring is its help."""

    __doc__: str | None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare options and operands."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it; the exit code. PageOwnerError for what goes wrong."""


COMMANDS: dict[str, Command] = {
    "mount": mount,
    "umount": umount,
    "status": status,
    "doctor": doctor,
    "alloc": alloc,
}


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="pageownerfs",
        description="Who allocated this page? A page allocator for processes that share memory, "
        "with the kernel's page_owner file as a mount.",
        epilog="pageownerfs SOURCE MOUNTPOINT [-o ...] is short for pageownerfs mount SOURCE "
        "MOUNTPOINT [-o ...]. pageownerfs VERB --help tells more.",
    )
    parser.add_argument("--version", action="version", version=f"pageownerfs {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, command in COMMANDS.items():
        text = (command.__doc__ or "").strip()
        verb = verbs.add_parser(
            name,
            help=text.partition("\n")[0].rstrip("."),
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(verb)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command.

    :param argv: without the program's name; None: sys.argv
    :return: exit code, see errors.py
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] not in (*COMMANDS, "-h", "--help", "--version"):
        words.insert(0, "mount")
    args = make_parser().parse_args(words)
    try:
        code = COMMANDS[args.verb].run(args)
        sys.stdout.flush()
    except PageOwnerError as error:
        print(f"pageownerfs: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # Nobody reads on; and nothing may complain of that at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    return code
