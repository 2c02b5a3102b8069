"""Every command line that a page shows is one: its verb, options and values are understood."""

from __future__ import annotations

import contextlib
import getopt
import io
import itertools
import re
import shlex
from typing import TYPE_CHECKING

import pytest
import rst
from rst import ROOT

from pageownerfs.cli import COMMANDS, make_parser, mount, options
from pageownerfs.errors import PageOwnerError
from pageownerfs.page_owner_sort import options as sort_options
from pageownerfs.sources import SOURCES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

PROGRAMS = ("pageownerfs", "page_owner_sort")
# What may stand before a command and runs it.
RUNNERS = frozenset(("sudo", "exec", "time", "nohup"))
FSTAB = re.compile(r"(?P<source>\S+)\s+/\S*\s+fuse\.pageownerfs\s+(?P<options>\S+)\s+\d\s+\d")
COMMAND_LINE = re.compile(
    r"(?:^(?:[$#] )?|[|;&] *|\$\()(?:sudo |exec |time |nohup |\w+=\S+ )*"
    r"(?:[^\s(]*/)?(?:pageownerfs|page_owner_sort|mount)(?= [^(]|$)"
)
REDIRECTION = re.compile(r"(?<=\s)\d?(?:>>?|<)&?\s*[^\s;|&)]+")
# What a reader replaces: SIZE, ..., a.
PLACEHOLDER = re.compile(r"-?[A-Z][A-Z_]*|[a-z]|.*\.\.\.|\.\.\..*")


# ---- finding them ----


def split_commands(line: str) -> Iterator[list[str]]:
    """Yield the commands of a line of shell, without redirections and what runs them."""
    line = re.sub(r"\$\(([^()]*)\)", r"; \1 ;", re.sub(r"^[$#] ", "", line.strip()))
    words = shlex.shlex(REDIRECTION.sub("", line), posix=True, punctuation_chars=";|&")
    words.whitespace_split = True
    command: list[str] = []
    for word in [*words, ";"]:
        if set(word) <= set(";|&"):
            while command and (command[0] in RUNNERS or re.match(r"\w+=", command[0])):
                del command[0]
            if command:
                yield command
            command = []
        else:
            command.append(word)


def is_ours(command: Sequence[str]) -> bool:
    """Whether a command is one of ours, or mounts us."""
    if command[0] == "mount":
        return "fuse.pageownerfs" in command
    # In a virtual environment, say.
    return command[0].rpartition("/")[2] in PROGRAMS


def block_commands(text: str) -> list[list[str]]:
    """Collect our commands in the literal blocks of a page."""
    found = []
    for block in rst.literal_blocks(text):
        lines = re.sub(r"\\\n\s*", " ", "\n".join(block)).splitlines()
        # Where there are prompts the other lines are output.
        typed = [line for line in lines if line.startswith(("$ ", "# "))] or lines
        for line in typed:
            if COMMAND_LINE.search(line):
                found += [command for command in split_commands(line) if is_ours(command)]
    return found


def inline_commands(text: str) -> list[list[str]]:
    """Collect our commands in the literals of the prose of a page."""
    found = []
    for literal in rst.names(rst.without_blocks(text)):
        if re.match(r"(?:sudo )?(?:pageownerfs|page_owner_sort|mount) ", literal):
            found += [command for command in split_commands(literal) if is_ours(command)]
    return found


def option_lists(text: str) -> list[str]:
    """Collect the lists behind -o in the literals of the prose of a page."""
    literals = rst.names(rst.without_blocks(text))
    return [match[1] for name in literals if (match := re.fullmatch(r"-o (\S+)", name))]


def fstab_lines(text: str) -> list[tuple[str, str]]:
    """Collect source and options of the lines of fstab."""
    found = []
    for block in rst.literal_blocks(text):
        matches = (FSTAB.fullmatch(line.strip()) for line in block)
        found += [(match["source"], match["options"]) for match in matches if match]
    return found


# ---- understanding them ----


def is_synopsis(command: Sequence[str]) -> bool:
    """Whether a command has parts that the reader fills in."""
    return any("[" in word or PLACEHOLDER.fullmatch(word) for word in command[1:])


def check_command(command: Sequence[str], *, whole: bool) -> None:
    """
    Let the program's own parser read a command.

    :param whole: that of a block; else operands may be missing
    :raises ValueError: it does not
    """
    name, words = command[0].rpartition("/")[2], list(command[1:])
    try:
        if is_synopsis(command) or not (whole or name == "mount"):
            check_option_names(name, words)
        elif name == "page_owner_sort":
            sort_options.parse_options(words)
        elif name == "mount":
            check_mount_8(words, whole=whole)
        else:
            check_pageownerfs(words)
    except (PageOwnerError, getopt.GetoptError) as error:
        raise ValueError(f"{shlex.join(command)}: {error}") from error


def check_pageownerfs(words: list[str]) -> None:
    """Read a whole command of pageownerfs."""
    if words[0] not in COMMANDS and not words[0].startswith("-"):
        words = ["mount", *words]
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            args = make_parser().parse_args(words)
        except SystemExit as end:
            if end.code:
                raise ValueError(f"pageownerfs {shlex.join(words)}: {output.getvalue()}") from end
            return
    if args.verb == "mount":
        kind, path = mount._split_source(args.source)
        options.parse_options(args.options, kind, path)


def check_mount_8(words: Sequence[str], *, whole: bool) -> None:
    """Read a command of mount(8)."""
    given, operands = getopt.gnu_getopt(list(words), "t:o:")
    assert ("-t", "fuse.pageownerfs") in given
    if not operands and not whole:
        return
    kind, path = mount._split_source(operands[0])
    options.parse_options([value for letter, value in given if letter == "-o"], kind, path)


def check_option_names(name: str, words: Sequence[str]) -> None:
    """See that a command has no option that the program has not; values are not looked at."""
    if name == "page_owner_sort":
        known = {f"-{letter}" for letter in sort_options._SHORT}
        known |= {f"--{long.rstrip('=')}" for long in sort_options._LONG}
    else:
        (verbs,) = (action for action in make_parser()._actions if action.dest == "verb")
        assert isinstance(verbs.choices, dict)
        verb = next((word for word in words if word in COMMANDS), "mount")
        known = {*verbs.choices[verb]._option_string_actions, "--version"}
    for word in words:
        option = re.match(r"\[?(--?[A-Za-z][\w-]*)", word)
        if option and option[1] not in known:
            raise ValueError(f"{name} has no option {option[1]}")
    for given, text in itertools.pairwise(words):
        if given.strip("[") == "-o":
            check_option_list(text.strip("[]"))


def check_option_list(text: str) -> None:
    """See that some source takes each of a list of mount options, and its value."""
    for item in text.split(","):
        name, equals, value = item.partition("=")
        if PLACEHOLDER.fullmatch(name) or not name:
            continue
        ours = [option for kind in SOURCES.values() for option in kind.options]
        declared = [option for option in (*ours, *options.COMMON) if option.name == name]
        if name in {*options.FLAGS, "ro", "rw"} and not equals:
            continue
        if not declared:
            raise ValueError(f"no source has an option {name}")
        if value and not PLACEHOLDER.fullmatch(value):
            errors = []
            for option in declared:
                try:
                    option.parse(value)
                except ValueError as error:
                    errors.append(str(error))
            if len(errors) == len(declared):
                raise ValueError(f"-o {item}: {errors[0]}")


# ---- the tests ----

PAGES = rst.pages()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands(path: Path) -> None:
    """No page shows a command, an option or a value that does not exist."""
    text = path.read_text(encoding="utf-8")
    for command in block_commands(text):
        check_command(command, whole=True)
    for command in inline_commands(text):
        check_command(command, whole=False)
    for listed in option_lists(text):
        check_option_list(listed)
    for source, given in fstab_lines(text):
        kind, file = mount._split_source(source)
        options.parse_options([given], kind, file)


PAGE = """
A pool::

    $ sudo LANG=C pageownerfs pool /mnt -o page_owner=on,size=64M > log  # a comment
    # page_owner_sort -m --cull=st \\
          /mnt/page_owner - | less && .venv/bin/pageownerfs umount /mnt
    page_owner_sort: this is output

Without prompts::

    pfn=$(pageownerfs alloc /mnt --order 3 2>/dev/null)
    pool /mnt fuse.pageownerfs page_owner=on,nofail 0 0

It prints::

    source: pool (pageownerfs 0.1.0)
    pageownerfs(1) and pageownerfs.client are no commands

Say ``pageownerfs status --json``, ``-o kernel_abi``, or
``mount -t fuse.pageownerfs kernel /mnt``. ``pageownerfs SOURCE`` is no command.
"""


def test_found() -> None:
    """Commands are found in blocks and in prose, whatever stands around them."""
    assert block_commands(PAGE) == [
        ["pageownerfs", "pool", "/mnt", "-o", "page_owner=on,size=64M"],
        ["page_owner_sort", "-m", "--cull=st", "/mnt/page_owner", "-"],
        [".venv/bin/pageownerfs", "umount", "/mnt"],
        ["pageownerfs", "alloc", "/mnt", "--order", "3"],
    ]
    assert inline_commands(PAGE) == [
        ["pageownerfs", "status", "--json"],
        ["mount", "-t", "fuse.pageownerfs", "kernel", "/mnt"],
        ["pageownerfs", "SOURCE"],
    ]
    assert option_lists(PAGE) == ["kernel_abi"]
    assert fstab_lines(PAGE) == [("pool", "page_owner=on,nofail")]


@pytest.mark.parametrize(
    ("line", "whole"),
    [
        ("pageownerfs pool /mnt -o nosuch=1", True),
        ("pageownerfs pool /mnt -o user_stacks", True),
        ("pageownerfs pool /mnt -o size=much", True),
        ("pageownerfs pool", True),
        ("pageownerfs status --yaml", True),
        ("pageownerfs alloc /mnt --order 11", True),
        ("mount -t fuse.pageownerfs pool /mnt -o nosuch", True),
        ("page_owner_sort --cull=nosuch in out", True),
        ("page_owner_sort -x in out", True),
        ("pageownerfs status --yaml", False),
        ("pageownerfs SOURCE MOUNTPOINT [--nosuch]", True),
        ("pageownerfs SOURCE MOUNTPOINT -o nosuch=on", True),
        ("pageownerfs alloc MOUNTPOINT --count=N --nosuch", False),
        ("page_owner_sort --nosuch", False),
    ],
)
def test_wrong_commands(line: str, whole: bool) -> None:
    """What a program does not understand fails."""
    (command,) = split_commands(line)
    with pytest.raises(ValueError, match=r"\w"):
        check_command(command, whole=whole)


@pytest.mark.parametrize("listed", ["nosuch", "size=much", "page_owner=maybe", "kernel_abi=1"])
def test_wrong_option_lists(listed: str) -> None:
    """An option that no source has, or a value that none takes, fails."""
    with pytest.raises(ValueError, match=r"\w"):
        check_option_list(listed)
