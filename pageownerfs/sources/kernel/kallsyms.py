"""
Look up symbols of the running kernel (/proc/kallsyms, kernel/kallsyms.c, ``%pS``).

The kernel's own symbols never change. Those of modules, BPF programs and trampolines come and go:
to look up such an address, the file is read again if something was loaded since.
"""

from __future__ import annotations

import ctypes
import re
from array import array
from bisect import bisect_left, bisect_right
from pathlib import Path
from typing import Final, NamedTuple

from pageownerfs.errors import MountError
from pageownerfs.mm.stack_depot import Frame
from pageownerfs.mm.zone import PAGE_SIZE
from pageownerfs.sources.kernel import libbpf

KALLSYMS_PATH: Final = "/proc/kallsyms"

_MODULES_PATH: Final = "/proc/modules"
_ADDRESS_DIGITS: Final = 16
_TEXT_TYPES: Final = frozenset(b"tTwW")
# An address more than this many bytes after the last known symbol does not belong to that symbol.
_MAX_LAST_SIZE: Final = 1 << 16


class _Table(NamedTuple):
    """The contents of the file at one moment."""

    data: bytes
    """The whole file; names are extracted on request."""
    addresses: array[int]
    """Address of each symbol, ascending; aliases are in the order of the file."""
    starts: array[int]
    """Offset of each symbol's line in the data, in the order of the addresses."""


class _Symbol(NamedTuple):
    """A line of the file."""

    address: int
    type: int
    name: str
    module: str


class Kallsyms:
    """
    Symbols of the running kernel. Reading them takes 0.1 s and about 60 bytes per symbol.

    :param data: contents of the file, for another kernel; None for the running kernel's, which
        are read again as modules and BPF programs come and go
    :raises MountError: the addresses are hidden from this process
    """

    def __init__(self, data: bytes | None = None) -> None:
        self._live = data is None
        self._last_ids = [0, 0]
        self._loaded = self._what_is_loaded()
        self._table = _read(data)
        if not self._table.addresses or not self._table.addresses[-1]:
            raise MountError(
                f"{KALLSYMS_PATH} hides the addresses of kernel functions: run as root, and "
                "with sysctl kernel.kptr_restrict=0 or 1"
            )
        self._text = self._text_ranges()

    def frame(self, address: int) -> Frame:
        """
        Return the symbol of an address, as ``%pS`` prints it (__sprint_symbol()).

        The result is exact for the kernel's own functions. The file lacks the sizes of a module's
        last function and of a BPF program: they extend to the next symbol or the end of the page.

        :param address: ``unsigned long``, a return address
        :return: the first symbol at an address, with the distance to the next address as its size;
            without a symbol, ``Frame("", "", address, 0, "", 0)``
        """
        own = any(start <= address < end for start, end in self._text)
        if not own:
            self._refresh_if_loaded()
        found = self._find_own(address) if own else self._find_loaded(address)
        if found is None:
            return Frame("", "", address, 0, "", 0)
        symbol, size = found
        return Frame(symbol.name, symbol.module, address - symbol.address, size, "", 0)

    def address(self, name: str) -> int | None:
        """
        Return the address of a symbol (kallsyms_lookup_name()).

        :param name: a symbol of the kernel itself, or one of a module
        :return: address of the first symbol with this name; None if there is none
        """
        data = self._table.data
        encoded = name.encode()
        ends = (data.find(b" %s\n" % encoded), data.find(b" %s\t" % encoded))
        found = min((end for end in ends if end >= 0), default=None)
        if found is None:
            return None
        start = data.rfind(b"\n", 0, found) + 1
        return int(data[start : start + _ADDRESS_DIGITS], 16)

    def refresh(self) -> None:
        """Read the file again; frame() does so if something was loaded since."""
        self._table = _read(None)

    def _text_ranges(self) -> tuple[tuple[int, int], ...]:
        """Return the address ranges of the kernel's own symbols (is_ksym_addr())."""
        # With CONFIG_KALLSYMS_ALL, the file has data symbols, and so _end.
        names = (("_stext", "_end"), ("_stext", "_etext"), ("_sinittext", "_einittext"))
        ranges = ((self.address(start), self.address(end)) for start, end in names)
        return tuple((start, end) for start, end in ranges if start is not None and end)

    def _symbol(self, table: _Table, index: int) -> _Symbol:
        start = table.starts[index]
        line = table.data[start : table.data.index(b"\n", start)]
        # 0123456789abcdef T name, then a tab and [module] if it was loaded
        name, _, module = line[_ADDRESS_DIGITS + 3 :].decode(errors="replace").partition("\t")
        return _Symbol(table.addresses[index], line[_ADDRESS_DIGITS + 1], name, module.strip("[]"))

    def _find_own(self, address: int) -> tuple[_Symbol, int] | None:
        """Mirror get_symbol_pos()."""
        table = self._table
        after = bisect_right(table.addresses, address)
        if not after:
            return None
        symbol = self._symbol(table, bisect_left(table.addresses, table.addresses[after - 1]))
        # The last symbol extends to the end of its range.
        ends = [end for start, end in self._text if start <= address < end]
        if after < len(table.addresses):
            ends.append(table.addresses[after])
        return symbol, min(ends) - symbol.address

    def _find_loaded(self, address: int) -> tuple[_Symbol, int] | None:
        """Mirror find_kallsyms_symbol() and __bpf_address_lookup()."""
        table = self._table
        after = bisect_right(table.addresses, address)
        if not after:
            return None
        symbol = self._symbol(table, bisect_left(table.addresses, table.addresses[after - 1]))
        if not symbol.module or symbol.type not in _TEXT_TYPES:
            return None
        if after < len(table.addresses):
            following = self._symbol(table, after)
            if following.module == symbol.module and following.type in _TEXT_TYPES:
                return symbol, following.address - symbol.address
        # A module's text is padded to whole pages.
        size = (address // PAGE_SIZE + 1) * PAGE_SIZE - symbol.address
        if after < len(table.addresses):
            size = min(size, table.addresses[after] - symbol.address)
        return (symbol, size) if size <= _MAX_LAST_SIZE else None

    def _refresh_if_loaded(self) -> None:
        if self._live and (loaded := self._what_is_loaded()) != self._loaded:
            self._loaded = loaded
            self.refresh()

    def _what_is_loaded(self) -> object:
        """Return a value that changes when a module or a BPF program is loaded."""
        if not self._live:
            return None
        try:
            lines = Path(_MODULES_PATH).read_text(errors="replace").splitlines()
        except FileNotFoundError:  # no CONFIG_MODULES
            lines = []
        # name size users dependents state address: the middle fields change with every use.
        modules = [(fields[0], fields[5]) for line in lines if len(fields := line.split()) > 5]
        # Ids of programs, and of links, which make trampolines, only grow.
        lib = libbpf.library()
        next_id = ctypes.c_uint32()
        for nr, get_next in enumerate((lib.bpf_prog_get_next_id, lib.bpf_link_get_next_id)):
            while not get_next(self._last_ids[nr], ctypes.byref(next_id)):
                self._last_ids[nr] = next_id.value
        return modules, tuple(self._last_ids)


def _read(data: bytes | None) -> _Table:
    if data is None:
        data = Path(KALLSYMS_PATH).read_bytes()
    # Don't make a list of lines, which would take three times the memory of the file.
    starts = array("I", [0])
    starts.extend(found.end() for found in re.finditer(rb"\n", data))
    starts.pop()  # the end of the file
    addresses = [int(data[at : at + _ADDRESS_DIGITS], 16) for at in starts]
    # The kernel's own symbols are sorted; modules and BPF programs follow one by one. The sort is
    # stable, so aliases keep their order.
    order = sorted(range(len(starts)), key=addresses.__getitem__)
    return _Table(
        data,
        array("Q", map(addresses.__getitem__, order)),
        array("I", map(starts.__getitem__, order)),
    )
