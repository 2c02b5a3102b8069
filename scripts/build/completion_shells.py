"""
Completion in the language of each shell, for what a parser does not know.

A Shell returns functions that go before shtab's code, and edits the result.
"""

from __future__ import annotations

import re
from shlex import quote
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Source = tuple[str, bool, str]
"""Name of a source; whether a file follows its name, after a colon; help text."""


class Item(NamedTuple):
    """A word that the user can type."""

    word: str
    help: str


class Shell(Protocol):
    """Writes the completion of one shell."""

    name: str

    def call(self, name: str, /) -> str:
        """Return the call of a function that values() or mount() has made."""

    def values(self, command: str, name: str, items: Sequence[Item], /) -> str:
        """Make a function that completes a list separated by commas."""

    def mount(self, sources: Sequence[Source], options: Mapping[str, Sequence[Item]], /) -> str:
        """Make the functions "sources" and "options"."""

    def finish(self, text: str, command: str, sources: Sequence[Source], /) -> str:
        """Turn shtab's output, which contains the functions, into the whole file."""


def patterns(sources: Sequence[Source]) -> list[str]:
    """Return a shell pattern for each source."""
    return [f"{name}:*" if takes_file else name for name, takes_file, _ in sources]


def any_option(options: Mapping[str, Sequence[Item]]) -> list[Item]:
    """Return the options of all sources, without duplicates."""
    return list(dict.fromkeys(item for items in options.values() for item in items))


def words(items: Sequence[Item]) -> str:
    """Join the words of the items."""
    return " ".join(item.word for item in items)


class Bash:
    """Completion for bash, which also splits words at : and =. A wrapper joins them again."""

    name = "bash"

    def call(self, name: str) -> str:
        """Name the function."""
        return f"_pageownerfs_complete_{name}"

    def values(self, _command: str, name: str, items: Sequence[Item]) -> str:
        """Make a function that completes a list separated by commas."""
        return f"""
_pageownerfs_complete_{name}() {{
  local done=
  [[ $1 == *,* ]] && done=${{1%,*}},
  compgen -P "$done" -W {quote(words(items))} -- "${{1##*,}}"
}}
"""

    def mount(self, sources: Sequence[Source], options: Mapping[str, Sequence[Item]]) -> str:
        """Make the functions "sources" and "options"."""
        cases = "".join(
            f"    {pattern}) options={quote(words(options[name]))}; break ;;\n"
            for (name, _, _), pattern in zip(sources, patterns(sources), strict=True)
        )
        names = " ".join(f"{name}:" if file else name for name, file, _ in sources)
        files = "|".join(name for name, takes_file, _ in sources if takes_file)
        return f"""
_pageownerfs_complete_sources() {{
  if [[ $1 == @({files}):* ]]; then
    compgen -P "${{1%%:*}}:" -f -- "${{1#*:}}"
  else
    compgen -W {quote(names)} -- "$1"
  fi
}}
_pageownerfs_complete_options() {{
  local word options={quote(words(any_option(options)))} done=
  for word in "${{COMP_WORDS[@]}}"; do
    case $word in
{cases}    esac
  done
  [[ $1 == *,* ]] && done=${{1%,*}},
  compgen -P "$done" -W "$options" -- "${{1##*,}}"
}}
"""

    def finish(self, text: str, command: str, sources: Sequence[Source]) -> str:
        """Add the wrapper."""
        verbless = first = files = ""
        if sources:
            pattern = "|".join(patterns(sources))
            verbless = f"""
  # SOURCE without a verb means mount.
  [[ ${{#line[@]}} -gt 2 && ${{line[1]}} == @({pattern}) ]] &&
    line=("${{line[0]}}" mount "${{line[@]:1}}")"""
            first = """
  # The first word may also be a source.
  [ "$COMP_CWORD" = 1 ] && while IFS= read -r reply; do COMPREPLY+=("$reply"); done < <(
    _pageownerfs_complete_sources "$word")"""
            of_file = "|".join(name for name, takes_file, _ in sources if takes_file)
            files = f"""
  [[ $word == @({of_file}):* ]] && compopt -o filenames 2>/dev/null"""
        return f"""{text}

_{command}() {{
  local -a line=()
  local typed=${{COMP_LINE:0:COMP_POINT}} word breaks=${{COMP_WORDBREAKS//[^:=]/}} reply
  IFS=$' \\t\\n' read -a line <<<"$typed"
  [[ $typed == *[[:space:]] ]] && line+=("")
  word=${{line[${{#line[@]}} - 1]}}
  [[ $word == --*=* ]] &&
    line=("${{line[@]:0:${{#line[@]}} - 1}}" "${{word%%=*}}" "${{word#*=}}"){verbless}
  local -a COMP_WORDS=("${{line[@]}}")
  local COMP_CWORD=$((${{#line[@]}} - 1))
  word=${{line[COMP_CWORD]}}
  _shtab_{command}{first}{files}
  # Readline replaces only what follows the last break.
  if [[ -n $breaks && $word == *[$breaks]* ]]; then
    COMPREPLY=("${{COMPREPLY[@]#"${{word%"${{word##*[$breaks]}}"}}"}}")
  fi
  [[ ${{#COMPREPLY[@]}} -gt 0 && ${{COMPREPLY[0]}} == *[:=] ]] && compopt -o nospace 2>/dev/null
  return 0
}}
complete -o bashdefault -F _{command} {command}
"""


def zsh_escape(text: str) -> str:
    """Quote a description for _values and _describe."""
    return re.sub(r"([\[\]:\\])", r"\\\1", text)


class Zsh:
    """Completion for zsh, by _values and _describe."""

    name = "zsh"

    def call(self, name: str) -> str:
        """Name the function."""
        return f"_pageownerfs_{name}"

    def _specs(self, items: Sequence[Item]) -> str:
        values: dict[str, list[str]] = {}
        helps = {}
        for item in items:
            name, equals, value = item.word.partition("=")
            helps[name] = item.help
            if equals:
                values.setdefault(name, []).append(value)
        specs = []
        for name, text in helps.items():
            described = f"{name}[{zsh_escape(text)}]" if text else name
            if name in values:
                described += f":value:({' '.join(values[name])})"
            specs.append(quote(described))
        return " ".join(specs)

    def values(self, command: str, name: str, items: Sequence[Item]) -> str:
        """Make a function that completes a list separated by commas."""
        return f"""
_pageownerfs_{name}() {{ _values -s , '{command} {name}' {self._specs(items)}; }}
"""

    def mount(self, sources: Sequence[Source], options: Mapping[str, Sequence[Item]]) -> str:
        """Make the functions "sources" and "options"."""
        cases = "".join(
            f"    ({pattern}) options=({self._specs(options[name])}) ;;\n"
            for (name, _, _), pattern in zip(sources, patterns(sources), strict=True)
        )
        described = {
            file: " ".join(
                quote(zsh_escape(f"{name}:" if file else name) + f":{text}")
                for name, takes_file, text in sources
                if takes_file == file
            )
            for file in (False, True)
        }
        pattern = "|".join(patterns(sources))
        return f"""
_pageownerfs_sources() {{
  if compset -P '({"|".join(name for name, file, _ in sources if file)}):'; then
    _files
    return
  fi
  local -a plain=({described[False]}) of_file=({described[True]})
  _describe -t sources source plain
  _describe -t sources source of_file -S ''
}}
_pageownerfs_options() {{
  local -a options
  case ${{words[(r)({pattern})]}} in
{cases}    (*) options=({self._specs(any_option(options))}) ;;
  esac
  _values -s , 'mount option' $options
}}
# SOURCE without a verb means mount; the first word may be either.
if (( CURRENT > 2 )) && [[ $words[2] == ({pattern}) ]]; then
  words=($words[1] mount "${{(@)words[2,-1]}}")
  (( CURRENT += 1 ))
fi
functions[_pageownerfs_verbs]=$functions[_shtab_pageownerfs_commands]
_shtab_pageownerfs_commands() {{
  _pageownerfs_sources
  [[ $PREFIX == *:* ]] || _pageownerfs_verbs
}}
"""

    def finish(self, text: str, _command: str, _sources: Sequence[Source]) -> str:
        """Accept --option=VALUE as well."""
        return re.sub(r'^( *"\*?--[\w-]+)(\[.*\]:)', r"\1=\2", text, flags=re.MULTILINE)


class Fish:
    """Completion for fish, whose candidates are the output of functions."""

    name = "fish"

    def call(self, name: str) -> str:
        """Call the function."""
        if name == "sources":
            return "(__pageownerfs_sources)"
        return f"(__fish_complete_list , __pageownerfs_{name})"

    def _print(self, items: Sequence[Item]) -> str:
        return "printf '%s\\t%s\\n' " + " ".join(quote(text) for item in items for text in item)

    def values(self, _command: str, name: str, items: Sequence[Item]) -> str:
        """Make a function that completes a list separated by commas."""
        return f"""
function __pageownerfs_{name}
  {self._print(items)}
end
"""

    def mount(self, sources: Sequence[Source], options: Mapping[str, Sequence[Item]]) -> str:
        """Make the functions "sources" and "options"."""
        cases = "".join(
            f"    case {quote(pattern)}\n      {self._print(options[name])}\n"
            for (name, _, _), pattern in zip(sources, patterns(sources), strict=True)
        )
        items = [Item(f"{name}:" if file else name, text) for name, file, text in sources]
        files = "|".join(name for name, takes_file, _ in sources if takes_file)
        verbless = "|".join(f"{name}:.*" if file else name for name, file, _ in sources)
        return f"""
function __pageownerfs_sources
  set -l token (commandline -ct)
  if string match -qr '^({files}):' -- $token
    set -l parts (string split -m 1 : -- $token)
    printf "$parts[1]:%s\\n" (__fish_complete_path $parts[2])
  else
    {self._print(items)}
  end
end
function __pageownerfs_options
  switch (string match -r '^(?:{verbless})$' -- (commandline -opc))[1]
{cases}    case '*'
      {self._print(any_option(options))}
  end
end
# The words before the cursor. SOURCE without a verb means mount.
function __pageownerfs_words
  set -l words (commandline -opc)
  if set -q words[2]; and string match -qr '^(?:{verbless})$' -- $words[2]
    set words $words[1] mount $words[2..-1]
  end
  printf '%s\\n' $words
end
"""

    def finish(self, text: str, command: str, sources: Sequence[Source]) -> str:
        """Make shtab's scan read our words, and complete sources as the first word."""
        if not sources:
            return text
        head, found, rest = text.rpartition("set -l tokens (commandline -opc)")
        if not found:
            raise SystemExit("this shtab writes other code for fish: see Fish.finish()")
        return f"""{head}set -l tokens (__pageownerfs_words){rest}
complete -c {command} -n 'test (count (commandline -opc)) -eq 1' -xka '(__pageownerfs_sources)'
"""


SHELLS: tuple[Shell, ...] = (Bash(), Zsh(), Fish())
