"""Complete a command line as the Tab key does: bash and zsh on a terminal, and fish."""

from __future__ import annotations

import os
import pty
import select
import shlex
import subprocess
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from pathlib import Path

BASH_COMPLETION = "/usr/share/bash-completion/bash_completion"

PROMPT = "ready> "

BASH_RC = f"""
PS1='{PROMPT}' HISTFILE=
bind 'set bell-style none'
. {BASH_COMPLETION}
report() {{ printf '%s\\n' "$READLINE_LINE" >&$REPORT_FD; }}
bind -x '"\\C-x\\C-r": report'
"""

ZSH_RC = f"""
PS1='{PROMPT}' HISTFILE=
unsetopt beep list_beep auto_list auto_menu
fpath=($SHARE/zsh/site-functions $fpath)
autoload -Uz compinit
compinit -D -u
report() {{ print -r -u $REPORT_FD -- "$BUFFER" }}
zle -N report
bindkey -e
bindkey '^X^R' report
bindkey '^U' kill-whole-line
"""


class Shell(Protocol):
    """A shell that completes lines; a context manager."""

    def __enter__(self) -> Self:
        """Start it."""
        ...

    def __exit__(self, *_exc: object) -> None:
        """End it."""
        ...

    def complete(self, line: str) -> str:
        """Complete the line, up to the common prefix of all candidates."""
        ...


def _environment(share: Path, home: Path) -> dict[str, str]:
    return {
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "PATH": os.pathsep.join([str(share.parent / "bin"), os.environ["PATH"]]),
        "SHARE": str(share),
        "TERM": "dumb",
        "XDG_DATA_DIRS": f"{share}:/usr/local/share:/usr/share",
        "ZDOTDIR": str(home),
    }


class TerminalShell:
    """A shell on its own terminal. A key that its rc file binds reports the line."""

    def __init__(self, name: str, share: Path, directory: Path) -> None:
        """Use the completion in ``share``; ``directory`` is home and current directory."""
        (directory / ".bashrc").write_text(BASH_RC)
        (directory / ".zshrc").write_text(ZSH_RC)
        self._words = {
            "bash": ["bash", "--noprofile", "--rcfile", str(directory / ".bashrc"), "-i"],
            "zsh": ["zsh", "-d", "-i"],
        }[name]
        self._env = _environment(share, directory)
        self._directory = directory

    def __enter__(self) -> Self:
        """Start the shell."""
        self._terminal, slave = pty.openpty()
        self._report, report = os.pipe()
        setsid = ["setsid", "--ctty", "--wait", *self._words]
        self._process = subprocess.Popen(
            setsid,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            pass_fds=[report],
            cwd=self._directory,
            env=self._env | {"REPORT_FD": str(report)},
        )
        os.close(slave)
        os.close(report)
        said = b""
        while PROMPT.encode() not in said:  # until then the terminal itself handles ^U and ^R
            said += os.read(self._terminal, 65536)
        return self

    def __exit__(self, *_exc: object) -> None:
        """Hang up."""
        os.close(self._terminal)
        self._process.wait()
        os.close(self._report)

    def complete(self, line: str) -> str:
        """Type the line and press Tab."""
        os.write(self._terminal, b"\x15" + line.encode() + b"\t\x18\x12")
        found, said = b"", b""
        while not found.endswith(b"\n"):
            ready, _, _ = select.select([self._terminal, self._report], [], [])
            if self._terminal in ready:
                said += os.read(self._terminal, 65536)
            if self._report in ready:
                part = os.read(self._report, 65536)
                assert part, f"the shell ended: {said!r}"
                found += part
        return found.decode().rstrip("\n")


class Fish:
    """fish, which lists candidates without a terminal."""

    def __init__(self, _name: str, share: Path, directory: Path) -> None:
        """Use the completion in ``share``; ``directory`` is home and current directory."""
        self._env = _environment(share, directory)
        self._directory = directory

    def __enter__(self) -> Self:
        """Nothing to start."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Nothing to end."""

    def complete(self, line: str) -> str:
        """Complete the line."""
        done = subprocess.run(
            ["fish", "-c", f"complete -C {shlex.quote(line)}"],
            capture_output=True,
            text=True,
            check=True,
            cwd=self._directory,
            env=self._env,
        )
        assert not done.stderr
        found = [row.partition("\t")[0] for row in done.stdout.splitlines()]
        return line[: line.rfind(" ") + 1] + os.path.commonprefix(found) if found else line  # noqa: RUF071 - of texts


def make_shell(name: str, share: Path, directory: Path) -> Shell:
    """Make the shell of that name."""
    return (Fish if name == "fish" else TerminalShell)(name, share, directory)
