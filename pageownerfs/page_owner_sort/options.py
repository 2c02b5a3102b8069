"""The command line of page_owner_sort: that of tools/mm/page_owner_sort.c, with extensions."""

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
"""The usage of Linux 6.12's tool, byte for byte."""

HELP: Final = (
    USAGE
    + """
Options of other versions of the kernel's tool:
-M\t\t\tSort by module.
-r\t\t\tSort by the time of the last free; needs free_ts (Linux 5.13 to 6.6).
-f\t\t\tFilter out blocks that were freed after they were allocated; needs free_ts.
--module <modules>\tSelect by module; vmlinux: blocks without one.
-d\t\t\tPrint on stderr what was read.
-h, --help\t\tPrint this help and exit.

Keys of --cull and --sort, long and short: pid p, tgid tg, name n, stacktrace st,
allocator ator, module mod; only --sort: txt T, alloc_ts at, free_ts ft; only --cull: free f.

Deliberate differences from the kernel's tool:
* --sort works. A letter such as -m overrides it.
* <input> may be a pipe, - (standard input), or a file of debugfs or of a mount. It may be
  compressed with gzip, xz or zstd. <output> may be - (standard output).
* An error prints one line on stderr and exits with 1. <output> is replaced only on success: it is
  written under another name and renamed.
* A command name may contain anything: "a) b), ts 5 ns", newlines, nothing. If --name is given more
  than once, each value is one name, commas included.
* The last record counts even without an empty line after it. Records may have any length, and a
  group may have more than 2^31 pages. Lines may end in CR LF; the output has no CR.
* A damaged record is reported and skipped; the exit code is 0 if any record is complete. Text
  without a header line is not a record. A record without a PFN line does not inherit CMA or SLAB
  from the record before it.
* A pid of more than 32 bits is an error, and so are more than two operands.
* Equal groups are in the order of their text or of the keys of --cull, whatever the C library's
  qsort() does. The first record of a group represents it.
* --cull=f prints RELEASED for blocks that were freed, which the tool of 6.1 swaps with UNRELEASED.
  --sort=ft continues with the next key if times are equal.
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
    """A parsed command line."""

    source: str
    output: str
    rules: Rules
    debug: bool


def parse_options(argv: Sequence[str]) -> Options | None:
    """
    Parse the command line.

    :param argv: arguments without the program's name
    :return: the options; None if help was requested
    :raises UsageError: an option or operand is wrong; show the usage
    :raises PageOwnerError: the value of an option is wrong
    """
    try:
        given, operands = getopt.gnu_getopt(list(argv), _SHORT, _LONG)
    except getopt.GetoptError as error:
        raise UsageError(error.msg) from error
    if any(option in {"-h", "--help"} for option, _ in given):
        return None
    rules = _parse_rules(given)
    if len(operands) != 2:
        raise UsageError(f"expected <input> and <output>, got {len(operands)} operands")
    source, output = operands
    return Options(source, output, rules, debug=any(option == "-d" for option, _ in given))


def _parse_rules(given: Sequence[tuple[str, str]]) -> Rules:
    """Make rules of the options, in the order in which they were given."""
    values: dict[str, list[str]] = {}
    for option, value in given:
        values.setdefault(option, []).append(value)
    letters = [sort for letter, sort in _LETTERS.items() if letter in values]
    if len(letters) > 1:
        raise UsageError("only one sort option may be given")
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
    """Parse a comma-separated list of numbers; the last list counts, as in the kernel's tool."""
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
    """Parse a 32-bit number as strtol() does; None if the text is not one."""
    text = text.lstrip(" \t\n\v\f\r")
    digits = text[1:] if text.startswith(("-", "+")) else text
    # int() accepts underscores, trailing blanks and digits of other scripts, but not 5000 zeros.
    if not (digits.isascii() and digits.isdecimal()) or len(digits.lstrip("0")) > 10:
        return None
    pid = int(digits.lstrip("0") or "0") * (-1 if text.startswith("-") else 1)
    return pid if -(1 << 31) <= pid < 1 << 31 else None


def _parse_names(values: list[str] | None) -> list[bytes] | None:
    """Split one comma-separated list, or return several names as they are."""
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
    """List the keys that an option accepts."""
    names = [f"{key.name} {key.short}" for key in keys.KEYS if getattr(key, use)]
    return "keys are " + ", ".join(names)
