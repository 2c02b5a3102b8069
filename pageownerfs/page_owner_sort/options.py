"""The command line of page_owner_sort: that of tools/mm/page_owner_sort.c, and what is ours."""

from __future__ import annotations

import getopt
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from pageownerfs.errors import PageOwnerError, UsageError

from . import keys
from .keys import Rules, SortKey

if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE: Final = """\
Usage: ./page_owner_sort [OPTIONS] <input> <output>
-a\t\t\tSort by memory allocation time.
-m\t\t\tSort by total memory.
-n\t\t\tSort by task command name.
-p\t\t\tSort by pid.
-P\t\t\tSort by tgid.
-s\t\t\tSort by the stacktrace.
-t\t\t\tSort by number of times record is seen (default).

--pid <pidlist>\t\tSelect by pid. This selects the information of
\t\t\tblocks whose process ID numbers appear in <pidlist>.
--tgid <tgidlist>\tSelect by tgid. This selects the information of
\t\t\tblocks whose Thread Group ID numbers appear in <tgidlist>.
--name <cmdlist>\tSelect by command name. This selects the information
\t\t\tof blocks whose command name appears in <cmdlist>.
--cull <rules>\t\tCull by user-defined rules. <rules> is a single
\t\t\targument in the form of a comma-separated list with some
\t\t\tcommon fields predefined (pid, tgid, comm, stacktrace, allocator)
--sort <order>\t\tSpecify sort order as: [+|-]key[,[+|-]key[,...]]
"""
"""What the tool of Linux 6.12 prints, byte for byte."""

HELP: Final = (
    USAGE
    + """
Of other versions of the kernel's tool:
-M\t\t\tSort by module.
-r\t\t\tSort by the time of the last free; needs free_ts (Linux 5.13 to 6.6).
-f\t\t\tFilter out blocks that were freed after they were allocated; needs free_ts.
--module <modules>\tSelect by module; vmlinux: blocks without one.
-d\t\t\tSay on stderr what was read.
-h, --help\t\tThis text.

Keys of --cull and --sort, long and short: pid p, tgid tg, name n, stacktrace st,
allocator ator, module mod; only --sort: txt T, alloc_ts at, free_ts ft; only --cull: free f.

What this program does otherwise than the kernel's, on purpose:
* --sort works. A letter such as -m overrides it.
* <input> may be a pipe, - (standard input), a file of debugfs or of a mount, and packed by
  gzip, xz or zstd. <output> may be -, standard output.
* An error ends it with exit code 1 and one line on stderr; <output> is then as it was before.
  It appears whole: it is written under another name and renamed.
* A command name is read whatever it holds: "a) b), ts 5 ns", newlines, nothing. If --name is
  given more than once, each value is one name, commas and all.
* The last record counts without an empty line behind it. Records of any length count, and so do
  more than 2^31 pages. Lines may end in CR LF, and are written without CR.
* A damaged record is reported and skipped; the exit code is 0 if any record is whole. What has no
  header line is no record, and a record without PFN line is not taken for CMA or SLAB because the
  one before it was.
* A pid is not cut to 32 bits, and more than two operands are an error.
* Groups that are equal come in the order of their text or of --cull's keys, whatever the C library
  does. A group is represented by its first record.
* --cull=f says RELEASED for blocks that were freed, which the tool of 6.1 has the wrong way round,
  and --sort=ft goes on with the next key where times are equal.
"""
)

_SHORT: Final = "admnpstPMrfh"
_LONG: Final = ("pid=", "tgid=", "name=", "cull=", "sort=", "module=", "help")
_LETTERS: Final = {
    "-a": SortKey(keys.ALLOC_TS),
    "-m": SortKey(keys.PAGES, descending=True),
    "-n": SortKey(keys.NAME),
    "-p": SortKey(keys.PID),
    "-P": SortKey(keys.TGID),
    "-s": SortKey(keys.STACKTRACE),
    "-t": SortKey(keys.TIMES, descending=True),
    "-M": SortKey(keys.MODULE),
    "-r": SortKey(keys.FREE_TS),
}


class Options(NamedTuple):
    """A command line, read."""

    source: str
    output: str
    rules: Rules
    debug: bool


def parse_options(argv: Sequence[str]) -> Options | None:
    """
    Read the command line.

    :param argv: without the program's name
    :return: None: help was asked for
    :raises UsageError: the usage should be shown
    :raises PageOwnerError: a value is wrong
    """
    try:
        given, operands = getopt.gnu_getopt(list(argv), _SHORT, _LONG)
    except getopt.GetoptError as error:
        raise UsageError(error.msg) from error
    if any(option in {"-h", "--help"} for option, _ in given):
        return None
    rules = _parse_rules(given)
    if len(operands) != 2:
        raise UsageError(f"it takes <input> and <output>; {len(operands)} operands were given")
    source, output = operands
    return Options(source, output, rules, debug=any(option == "-d" for option, _ in given))


def _parse_rules(given: Sequence[tuple[str, str]]) -> Rules:
    """Read the options in the order in which they were given."""
    values: dict[str, list[str]] = {}
    for option, value in given:
        values.setdefault(option, []).append(value)
    letters = [sort for letter, sort in _LETTERS.items() if letter in values]
    if len(letters) > 1:
        raise UsageError("only one of the options to sort by may be given")
    cull: dict[keys.Key, None] = {}
    sort: list[SortKey] = []
    for option, value in given:
        if option == "--cull":
            cull |= dict.fromkeys(_parse_cull(value))
        elif option == "--sort":
            sort = _parse_sort(value)
    return Rules(
        pids=_parse_pids("pid", values.get("--pid")),
        tgids=_parse_pids("tgid", values.get("--tgid")),
        names=_parse_names(values.get("--name")),
        modules=_parse_names(values.get("--module")),
        unreleased="-f" in values,
        cull=tuple(cull),
        sort=tuple(letters or sort or Rules().sort),
    )


def _parse_pids(option: str, values: list[str] | None) -> list[int] | None:
    """Read a comma list of numbers; the last one that was given, as the kernel's tool."""
    if values is None:
        return None
    pids = []
    for item in values[-1].split(","):
        pid = _parse_pid(item)
        if pid is None:
            raise PageOwnerError(f"wrong/invalid {option} in from the command line:{values[-1]}")
        pids.append(pid)
    return pids


def _parse_pid(text: str) -> int | None:
    """Read a number of 32 bits as strtol() does; None: it is none."""
    text = text.lstrip(" \t\n\v\f\r")
    digits = text[1:] if text.startswith(("-", "+")) else text
    # int() would take underscores, blanks behind, and other scripts' digits, but not 5000 zeros.
    if not (digits.isascii() and digits.isdecimal()) or len(digits.lstrip("0")) > 10:
        return None
    pid = int(digits.lstrip("0") or "0") * (-1 if text.startswith("-") else 1)
    return pid if -(1 << 31) <= pid < 1 << 31 else None


def _parse_names(values: list[str] | None) -> list[bytes] | None:
    """Read a comma list, or several names whole."""
    if values is None:
        return None
    names = values if len(values) > 1 else values[0].split(",")
    return [os.fsencode(name) for name in names]


def _parse_cull(value: str) -> list[keys.Key]:
    found = [keys.find_key(name) for name in value.split(",")]
    culled = [key for key in found if key is not None and key.culls]
    if len(culled) < len(found):
        raise PageOwnerError(f"wrong argument after --cull option:{value} ({_names('culls')})")
    return culled


def _parse_sort(value: str) -> list[SortKey]:
    sort = []
    for item in value.split(","):
        key = keys.find_key(item[1:] if item.startswith(("-", "+")) else item)
        if key is None or not key.sorts:
            raise PageOwnerError(f"wrong argument after --sort option:{value} ({_names('sorts')})")
        sort.append(SortKey(key, descending=item.startswith("-")))
    return sort


def _names(use: str) -> str:
    """Name the keys that an option takes."""
    names = [f"{key.name} {key.short}" for key in keys.KEYS if getattr(key, use)]
    return "keys are " + ", ".join(names)
