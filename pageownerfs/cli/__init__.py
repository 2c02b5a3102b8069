"""
The command ``pageownerfs``: one verb, one module.

``pageownerfs SOURCE MOUNTPOINT ...``, the order that mount(8) uses, is short for
``pageownerfs mount SOURCE MOUNTPOINT ...``. main() alone prints errors and chooses exit codes;
errors.py lists them. Commands use every room; sources they know by their SourceKind only.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, NoReturn, Protocol

from pageownerfs import __version__, stdio
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


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """End with exit code 2, also where standard error can't be written."""
        stdio.say(f"{self.format_usage()}{self.prog}: error: {message}")
        raise SystemExit(2)


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the whole command line."""
    parser = _Parser(
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
    stdio.fill_closed()
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - to the end
    try:
        code = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except PageOwnerError as error:
        stdio.say(f"pageownerfs: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    except OSError as error:
        stdio.drop_output()
        if not isinstance(error, BrokenPipeError):
            stdio.say(f"pageownerfs: {stdio.describe(error)}")
        return 1
    return code


def _run(words: list[str]) -> int:
    if words and words[0] not in (*COMMANDS, "-h", "--help", "--version"):
        words.insert(0, "mount")
    try:
        args = make_parser().parse_args(words)
    except SystemExit as end:  # after --help, or an error that was printed
        return int(end.code or 0)
    return COMMANDS[args.verb].run(args)
