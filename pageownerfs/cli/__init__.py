"""
The command ``pageownerfs``, with one module per verb.

``pageownerfs SOURCE MOUNTPOINT ...``, the order that mount(8) uses, is short for
``pageownerfs mount SOURCE MOUNTPOINT ...``. Only main() prints errors and chooses exit codes,
which errors.py lists. Commands use every room, but know sources only by their SourceKind.
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
    """A verb: a module whose docstring is its help text."""

    __doc__: str | None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options and operands."""

    def run(self, args: argparse.Namespace) -> int:
        """Run the verb and return the exit code.

        :raises PageOwnerError: the verb failed
        """


COMMANDS: dict[str, Command] = {
    "mount": mount,
    "umount": umount,
    "status": status,
    "doctor": doctor,
    "alloc": alloc,
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Exit with code 2, even if standard error can't be written."""
        stdio.say(f"{self.format_usage()}{self.prog}: error: {message}")
        raise SystemExit(2)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = _Parser(
        prog="pageownerfs",
        description="Mount a file system that shows who allocated each page: pages of the "
        "running kernel, of a shared-memory pool, or of a saved page_owner or trace.",
        epilog="pageownerfs SOURCE MOUNTPOINT [-o ...] is short for pageownerfs mount SOURCE "
        "MOUNTPOINT [-o ...]. For the options of a verb, try pageownerfs VERB --help.",
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

    :param argv: arguments without the program's name; None for those of sys.argv
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
    except SystemExit as end:  # after --help, or after printing an error
        return int(end.code or 0)
    return COMMANDS[args.verb].run(args)
