"""The command page_owner_sort: read, show progress, write, and exit cleanly on any error."""

from __future__ import annotations

import signal
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Final, NoReturn

from pageownerfs import stdio
from pageownerfs.errors import PageOwnerError, UsageError
from pageownerfs.text.input import open_input
from pageownerfs.text.progress import ProgressBar

from .groups import damage, group_input
from .options import HELP, USAGE, Options, parse_options
from .output import STDOUT, format_groups, open_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pageownerfs._native import Groups
    from pageownerfs.text.input import Input

_EXIT_SIGNAL: Final = 128
_LOADED_STEP: Final = 1000


class _Loading:
    """Show the progress of reading: on stdout as the kernel's tool does, on stderr as a bar."""

    def __init__(self, name: str, *, quiet: bool) -> None:
        self._stdout = None if quiet else sys.stdout
        self._told = 0
        self._bar = ProgressBar(name) if sys.stderr.isatty() else None

    def show(self, nr_bytes: int, total_bytes: int | None, nr_records: int) -> None:
        """Update the progress; a Progress callback."""
        if self._stdout and not self._stdout.isatty():
            steps = range(self._told + 1, nr_records // _LOADED_STEP + 1)
            _tell("".join(f"loaded {i * _LOADED_STEP}\r" for i in steps))
            self._told = nr_records // _LOADED_STEP
        if self._bar is not None:
            self._bar.show(nr_bytes, total_bytes, nr_records)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()


def _report_damage(source: Input, groups: Groups) -> None:
    """List on stderr what was skipped."""
    described = damage(groups)
    for item in described:
        stdio.say(f"page_owner_sort: {source.name}: {item}; skipped")
    if groups.nr_damaged > len(described):
        more = groups.nr_damaged - len(described)
        stdio.say(f"page_owner_sort: {source.name}: and {more} more")
    if described:
        stdio.say(f"page_owner_sort: {source.name}: {groups.nr_damaged} damaged records skipped")


def _tell(text: str, *, flush: bool = False) -> None:
    """Print progress on stdout."""
    try:
        print(text, end="", flush=flush)
    except BrokenPipeError:
        raise
    except OSError as error:
        # Standard output failed here, not the output file.
        stdio.drop_output()
        raise PageOwnerError(stdio.describe(error)) from error


def _sort(options: Options) -> None:
    """Read the input, group it, and write the output."""
    quiet = options.output == STDOUT
    with open_output(options.output) as out, open_input(options.source) as source:
        with closing(_Loading(source.name, quiet=quiet)) as loading:
            groups = group_input(source, options.rules, loading.show)
        _report_damage(source, groups)
        if not quiet:
            _tell(f"loaded {groups.nr_records}\nsorting ....\nculling\n", flush=True)
        out.writelines(format_groups(groups, options.rules))
        if options.debug:
            stdio.say(
                f"page_owner_sort: {source.name}: {groups.nr_bytes} bytes, {groups.nr_records} "
                f"selected records, {groups.nr_damaged} damaged records, {len(groups)} groups"
            )


def _end(number: int, _frame: object) -> NoReturn:
    """Exit on a signal, but through the normal cleanup."""
    raise SystemExit(_EXIT_SIGNAL + number)


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command.

    :param argv: arguments without the program's name; None for those of sys.argv
    :return: exit code: 0; 1 for any error, as in the kernel's tool; 130 after Ctrl-C; 141 if the
        reader of the output closed the pipe
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    stdio.fill_closed()
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        return _EXIT_SIGNAL + signal.SIGINT
    except BrokenPipeError:
        stdio.drop_output()
        return _EXIT_SIGNAL + signal.SIGPIPE
    except PageOwnerError as error:
        stdio.say(f"page_owner_sort: {error}")
    except MemoryError:
        stdio.say("page_owner_sort: out of memory")
    return 1


def _run(words: Sequence[str]) -> int:
    try:
        options = parse_options(words)
    except UsageError as error:
        _tell(USAGE, flush=True)
        stdio.say(f"page_owner_sort: {error}; try --help")
        return 1
    if options is None:
        _tell(HELP, flush=True)
    else:
        _sort(options)
        _tell("", flush=True)
    return 0
