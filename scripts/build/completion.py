"""
Write completion of pageownerfs and page_owner_sort for bash, zsh and fish.

usage: completion.py FOLDER

The files are written below FOLDER as below /usr/share: bash-completion, zsh, fish. The built
package must be importable. shtab turns the argument parsers into completion;
completion_shells.py adds what a parser does not know: mount options, SOURCE without a verb, and
lists separated by commas.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import shtab
from completion_shells import SHELLS, Item, Shell

from pageownerfs.cli import COMMANDS, make_parser
from pageownerfs.cli.options import COMMON, FLAGS
from pageownerfs.mm.formats import FORMATS
from pageownerfs.page_owner_sort.keys import KEYS
from pageownerfs.page_owner_sort.options import HELP
from pageownerfs.sources import SOURCES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pageownerfs.sources.options import Option

FILES: Final = {
    "bash": "bash-completion/completions/{}",
    "zsh": "zsh/site-functions/_{}",
    "fish": "fish/vendor_completions.d/{}.fish",
}
VALUES: Final = {"format": tuple(FORMATS)}
"""Values that the metavar of an option does not list."""
SORT_OPTION: Final = re.compile(r"^(-\w|--\w+)(?:, (--\w+))?(?: <(\w+)>)?\t+(.*)$", re.MULTILINE)


def option_items(options: Iterable[Option]) -> Iterator[Item]:
    """Yield ``name=`` for each mount option, or ``name=value`` where the values are known."""
    for option in options:
        if option.implied:
            yield Item(option.name, option.help)
        values = VALUES.get(option.name, option.metavar.split("|"))
        for value in values:
            word = "" if value.isupper() else value
            yield Item(f"{option.name}={word}", option.help)


def mount_options() -> dict[str, list[Item]]:
    """Return the mount options of each source."""
    read_only = Item("ro", "nothing can be written")
    common = [*option_items(COMMON), *(Item(*flag) for flag in FLAGS.items()), read_only]
    return {name: [*option_items(kind.options), *common] for name, kind in SOURCES.items()}


def verbs_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each verb."""
    (verbs,) = (a.choices for a in parser._actions if isinstance(a.choices, dict))  # noqa: SLF001
    return verbs


def mount_parser(shell: Shell) -> argparse.ArgumentParser:
    """Return the parser of pageownerfs, with the attributes that shtab reads."""
    parser = make_parser()
    verbs = verbs_of(parser)
    assert verbs.keys() == COMMANDS.keys()
    for verb in verbs.values():
        for action in verb._actions:  # noqa: SLF001
            how: Any = {
                ("mountpoint", False): shtab.DIRECTORY,
                ("source", False): {shell.name: shell.call("sources")},
                ("options", True): {shell.name: shell.call("options")},
            }.get((action.dest, "-o" in action.option_strings))
            if how is not None:
                action.complete = how  # type: ignore[attr-defined]
    return parser


def sort_parser(shell: Shell) -> argparse.ArgumentParser:
    """Make a parser from the help of page_owner_sort, which reads its options with getopt."""
    parser = argparse.ArgumentParser(prog="page_owner_sort", add_help=False)
    for short, long, value, text in SORT_OPTION.findall(HELP):
        names = [name for name in (short, long) if name]
        if not value:
            action = parser.add_argument(*names, action="store_true", help=text.partition(".")[0])
            continue
        action = parser.add_argument(*names, metavar=value, help=text.partition(".")[0])
        if short in {"--cull", "--sort"}:
            how = {shell.name: shell.call(short.removeprefix("--"))}
            action.complete = how  # type: ignore[attr-defined]
    for operand in ("input", "output"):
        action = parser.add_argument(operand)
        action.complete = shtab.FILE  # type: ignore[attr-defined]
    return parser


def completions(shell: Shell) -> Iterator[tuple[str, str]]:
    """Yield the name of each command and its completion."""
    sources = [(kind.name, kind.takes_file, kind.help) for kind in SOURCES.values()]
    own = shell.mount(sources, mount_options())
    text = shtab.complete(mount_parser(shell), shell.name, preamble=own)
    yield "pageownerfs", shell.finish(text, "pageownerfs", sources)
    keys = {
        "cull": [Item(key.name, "") for key in KEYS if key.culls],
        "sort": [Item(key.name, "") for key in KEYS if key.sorts],
    }
    own = "".join(shell.values("page_owner_sort", name, items) for name, items in keys.items())
    text = shtab.complete(sort_parser(shell), shell.name, preamble=own)
    yield "page_owner_sort", shell.finish(text, "page_owner_sort", [])


def main() -> None:
    """Write the files."""
    (folder,) = sys.argv[1:]
    for shell in SHELLS:
        for command, text in completions(shell):
            path = Path(folder, FILES[shell.name].format(command))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.rstrip("\n") + "\n")


if __name__ == "__main__":
    main()
