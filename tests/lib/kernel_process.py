"""A process that allocates pages on command: the driver of kernel_process.c."""

from __future__ import annotations

import os
import subprocess
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

_LIB: Final = Path(__file__).resolve().parent
_NATIVE: Final = _LIB.parents[1] / "pageownerfs" / "native"
_PRESENT: Final = 1 << 63
_PFN_MASK: Final = (1 << 55) - 1
PAGE: Final = 4096
NOT_THERE: Final = 0
"""PFN of an unmapped page."""


def compile_c(source: Path, program: Path, *options: str) -> Path:
    """Compile a C program of this folder, which may include headers of the package."""
    # Without optimization each function has a frame and a frame pointer, which user stacks need.
    line = ["gcc", "-O0", "-pthread", "-Wall", "-Wextra", "-Werror"]
    line += [*options, f"-I{_NATIVE}", "-o", str(program), str(source)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return program


def compile_process(directory: Path, name: str = "kernel_process") -> Path:
    """Compile kernel_process.c; the program's name becomes its comm."""
    return compile_c(_LIB / "kernel_process.c", directory / name)


def read_pagemap(pid: int, address: int, nr_pages: int) -> list[int]:
    """Return the PFN of each page of a process; NOT_THERE for unmapped pages."""
    entries = array("Q")
    with Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as file:
        offset = address // PAGE * 8
        while len(entries) < nr_pages:
            data = os.pread(file.fileno(), (nr_pages - len(entries)) * 8, offset)
            assert data
            entries.frombytes(data)
            offset += len(data)
    return [entry & _PFN_MASK if entry & _PRESENT else NOT_THERE for entry in entries]


class Process:
    """One such process, as a context manager that ends it."""

    def __init__(self, program: Path | Sequence[str]) -> None:
        """Start it."""
        line = [str(program)] if isinstance(program, Path) else list(program)
        # Closed by end().
        self._child = subprocess.Popen(
            line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._child.pid

    def __enter__(self) -> Self:
        """Return the process; it ends with the context."""
        return self

    def __exit__(self, *args: object) -> None:
        """End it."""
        self.end()

    def end(self) -> None:
        """Let it exit, and wait for that."""
        self._child.communicate(timeout=30)

    def ask(self, verb: str, word: str | Path, *numbers: int) -> list[str]:
        """Send a command and return the words of the answer."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        line = " ".join([verb, str(word), *(f"{number:x}" for number in numbers)])
        self._child.stdin.write(line + "\n")
        self._child.stdin.flush()
        answer = self._child.stdout.readline()
        assert answer.endswith("\n"), f"{line}: the process has ended"
        return answer.split()

    def address(self, verb: str, *numbers: int, word: str | Path = "-") -> int:
        """Send a command that makes a mapping, and return its address."""
        return int(self.ask(verb, word, *numbers)[0], 16)

    def name(self, comm: bytes) -> None:
        """Set the name of its main thread."""
        self.ask("name", comm.hex() or "-")

    def pfns(self, address: int, nr_pages: int) -> list[int]:
        """Return the PFNs of its pages."""
        return read_pagemap(self.pid, address, nr_pages)
