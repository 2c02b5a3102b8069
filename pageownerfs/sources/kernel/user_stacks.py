"""
User stacks: translate return addresses of processes to file and offset.

A process may have ended when its stack is printed, so its mappings are read soon after it is first
seen. A process that ends even earlier shows plain addresses.
"""

from __future__ import annotations

import re
import threading
from bisect import bisect_right
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, NamedTuple

from pageownerfs.mm.stack_depot import Frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

# Lower halves of x86-64's kernel text addresses have this bit set; process ids don't.
_KERNEL_BIT: Final = 1 << 31
_MAX_PROCESSES: Final = 4096
_MAP_LINE: Final = re.compile(rb"([0-9a-f]+)-([0-9a-f]+) ..x. ([0-9a-f]+) \S+ \d+ *(.*)")


class UserStack(NamedTuple):
    """The user part of a stack."""

    tgid: int
    """Process id."""
    addresses: tuple[int, ...]
    """Return addresses, innermost first."""


class _Mapping(NamedTuple):
    start: int
    end: int
    offset: int
    name: str


def split_user_words(words: Sequence[int]) -> tuple[Sequence[int], UserStack | None]:
    """
    Split a stack of the stack depot into the kernel's part and the user's.

    The user's part begins with the process id, followed by the upper and lower half of each
    address.
    """
    for index, word in enumerate(words):
        if not word & _KERNEL_BIT:
            halves = words[index + 1 :]
            pairs = zip(halves[::2], halves[1::2], strict=False)
            return words[:index], UserStack(word, tuple(high << 32 | low for high, low in pairs))
    return words, None


class UserStacks:
    """Mappings of processes, to look up addresses."""

    def __init__(self, local_tgid: Callable[[int], int]) -> None:
        """
        Start without processes.

        :param local_tgid: returns the pid of a process in /proc; 0 if it has none
        """
        self._local_tgid = local_tgid
        self._lock = threading.Lock()
        self._mappings: dict[int, list[_Mapping]] = {}

    def remember(self, tgids: Iterable[int]) -> None:
        """Read the mappings of new processes."""
        for tgid in tgids:
            if tgid not in self._mappings:
                self._read(tgid)

    def frames(self, stack: UserStack) -> list[Frame]:
        """Return a frame for each address: name of the file, offset in the file, ``[user]``."""
        return [self._frame(stack.tgid, address) for address in stack.addresses]

    def _frame(self, tgid: int, address: int) -> Frame:
        found = self._find(tgid, address)
        if found is None:
            # The file may have been mapped later.
            self._read(tgid)
            found = self._find(tgid, address)
        if found is None:
            return Frame("", "", address, 0, "", 0)
        size = found.offset + found.end - found.start
        return Frame(found.name, "user", address - found.start + found.offset, size, "", 0)

    def _find(self, tgid: int, address: int) -> _Mapping | None:
        mappings = self._mappings.get(tgid, [])
        index = bisect_right(mappings, address, key=lambda mapping: mapping.start) - 1
        if index < 0 or address >= mappings[index].end:
            return None
        return mappings[index]

    def _read(self, tgid: int) -> None:
        try:
            lines = Path(f"/proc/{self._local_tgid(tgid)}/maps").read_bytes().splitlines()
        except OSError:
            lines = []
        found = []
        for line in lines:
            match = _MAP_LINE.match(line)
            if match:
                path = match[4].decode(errors="backslashreplace")
                name = PurePosixPath(path).name if path else "anon"
                found.append(
                    _Mapping(int(match[1], 16), int(match[2], 16), int(match[3], 16), name)
                )
        with self._lock:
            # Keep the known mappings of a process that has ended.
            if found or tgid not in self._mappings:
                self._mappings[tgid] = found
            while len(self._mappings) > _MAX_PROCESSES:
                del self._mappings[next(iter(self._mappings))]
