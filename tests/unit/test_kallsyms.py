"""Addresses of a kernel as text."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from data import kernel_file

from pageownerfs.errors import MountError
from pageownerfs.mm.stack_depot import Frame, format_frame
from pageownerfs.sources.kernel import kallsyms
from pageownerfs.sources.kernel.kallsyms import Kallsyms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pageownerfs.page_owner_sort import Record

# A per-CPU offset, the kernel, two modules out of order, a BPF program and a trampoline.
TEXT = b"""\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000123 T startup_64
ffffffff81000180 t first_alias
ffffffff81000180 T second_alias
ffffffff81000200 T last_function
ffffffff81000400 T _etext
ffffffff81600000 T _sinittext
ffffffff81600000 t init_function
ffffffff81600100 T _einittext
ffffffffc0500000 t probe\t[second]
ffffffffc0500080 T remove\t[second]
ffffffffc0502000 d data\t[second]
ffffffffc0401000 t open_it\t[first]
ffffffffc0401000 t open_alias\t[first]
ffffffffc0401040 t close_it\t[first]
ffffffffc0600000 t bpf_prog_6deef7357e7b4530_one\t[bpf]
ffffffffc0600100 t bpf_trampoline_6442\t[bpf]
"""
HIDDEN = re.sub(rb"(?m)^[0-9a-f]{16}", b"0" * 16, TEXT)


@pytest.fixture(scope="module")
def running() -> Iterator[Kallsyms]:
    """Return the symbols of the running kernel; skip the test if they are hidden."""
    if not Path("/proc/kallsyms").exists():
        pytest.skip("needs a kernel with /proc/kallsyms")
    try:
        yield Kallsyms()
    except MountError as error:
        pytest.skip(f"needs readable kernel symbols: {error}")


@pytest.mark.parametrize(
    ("address", "line"),
    [
        pytest.param(0xFFFFFFFF81000000, " _stext+0x0/0x123", id="first of all, first alias"),
        pytest.param(0xFFFFFFFF81000130, " startup_64+0xd/0x5d", id="inside"),
        pytest.param(0xFFFFFFFF8100017F, " startup_64+0x5c/0x5d", id="last byte"),
        pytest.param(0xFFFFFFFF81000190, " first_alias+0x10/0x80", id="first of two aliases"),
        pytest.param(0xFFFFFFFF810003FF, " last_function+0x1ff/0x200", id="up to _etext"),
        pytest.param(0xFFFFFFFF81000400, " 0xffffffff81000400", id="behind the text"),
        pytest.param(0xFFFFFFFF81600010, " _sinittext+0x10/0x100", id="init"),
        pytest.param(0x10, " 0x10", id="a per-CPU offset is no address"),
        pytest.param(0x0, " 0x0", id="null"),
        pytest.param(2**64 - 1, " 0xffffffffffffffff", id="top"),
        pytest.param(0xFFFFFFFFC0401004, " open_it+0x4/0x40 [first]", id="module, alias"),
        pytest.param(0xFFFFFFFFC0401050, " close_it+0x10/0xfc0 [first]", id="to the page's end"),
        pytest.param(0xFFFFFFFFC0500010, " probe+0x10/0x80 [second]", id="the other module"),
        pytest.param(0xFFFFFFFFC0501010, " remove+0xf90/0x1f80 [second]", id="not into its data"),
        pytest.param(0xFFFFFFFFC0502000, " 0xffffffffc0502000", id="data of a module"),
        pytest.param(0xFFFFFFFFC0480000, " 0xffffffffc0480000", id="between modules"),
        pytest.param(
            0xFFFFFFFFC0600010, " bpf_prog_6deef7357e7b4530_one+0x10/0x100 [bpf]", id="BPF"
        ),
    ],
)
def test_frame(address: int, line: str) -> None:
    """An address is printed as %pS prints it."""
    assert format_frame(Kallsyms(TEXT).frame(address)).decode() == f"{line}\n"


def test_frame_with_data_symbols() -> None:
    """A kernel with CONFIG_KALLSYMS_ALL names everything up to _end, including gaps."""
    symbols = Kallsyms(TEXT.replace(b"T _sinittext", b"T _sinittext\nffffffff81600200 B _end"))
    assert symbols.frame(0xFFFFFFFF81000410) == Frame("_etext", "", 0x10, 0x5FFC00, "", 0)


def test_address() -> None:
    """A name has the address of its first symbol, and only complete names match."""
    symbols = Kallsyms(TEXT)
    assert symbols.address("startup_64") == 0xFFFFFFFF81000123
    assert symbols.address("remove") == 0xFFFFFFFFC0500080
    assert symbols.address("fixed_percpu_data") == 0
    assert symbols.address("startup") is None
    assert symbols.address("second") is None


@pytest.mark.parametrize("text", [HIDDEN, b""], ids=["kptr_restrict", "empty"])
def test_hidden(text: bytes) -> None:
    """All-zero addresses are an error that says what to do."""
    with pytest.raises(MountError, match=r"run as root, .* sysctl kernel\.kptr_restrict"):
        Kallsyms(text)


def test_loaded_later(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The file is read again for an address outside the kernel itself if something was loaded."""
    path = tmp_path / "kallsyms"
    path.write_bytes(TEXT)
    loaded = ["before"]
    monkeypatch.setattr(kallsyms, "KALLSYMS_PATH", str(path))
    monkeypatch.setattr(Kallsyms, "_what_is_loaded", lambda _: list(loaded))
    symbols = Kallsyms()
    path.write_bytes(TEXT.replace(b"probe", b"renamed"))
    assert symbols.frame(0xFFFFFFFFC0500000).name == "probe"
    loaded.append("another module")
    assert symbols.frame(0xFFFFFFFF81000130).name == "startup_64"
    assert symbols.frame(0xFFFFFFFFC0500000).name == "renamed"
    path.write_bytes(TEXT)
    symbols.refresh()
    assert symbols.frame(0xFFFFFFFFC0500000).name == "probe"


def test_running_kernel(running: Kallsyms) -> None:
    """Every function of the running kernel is found, up to the next address."""
    address = running.address("schedule")
    assert address is not None
    lines = Path("/proc/kallsyms").read_bytes().splitlines()
    own = [line.split(b" ", 2) for line in lines if b"\t" not in line]
    starts = sorted({int(line[0], 16) for line in own})
    following = dict(pairwise(starts))
    etext = running.address("_etext")
    assert etext is not None
    first: dict[int, str] = {}
    for digits, _, name in own:
        first.setdefault(int(digits, 16), name.decode())
    functions = [start for start in starts if address <= start < etext][:2000]
    for start in functions:
        size = following[start] - start
        assert running.frame(start + size - 1) == Frame(first[start], "", size - 1, size, "", 0)


def test_running_kernel_unknown(running: Kallsyms) -> None:
    """An address of a process has no symbol."""
    assert running.frame(0x400000) == Frame("", "", 0x400000, 0, "", 0)


def test_file_is_read_once(running: Kallsyms, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's own functions are looked up without reading any file again."""
    opened: list[Path] = []
    read_bytes, read_text = Path.read_bytes, Path.read_text
    monkeypatch.setattr(Path, "read_bytes", lambda path: opened.append(path) or read_bytes(path))
    monkeypatch.setattr(
        Path, "read_text", lambda path, **how: opened.append(path) or read_text(path, **how)
    )
    address = running.address("schedule")
    assert address is not None
    assert all(running.frame(address + offset).name for offset in range(16))
    assert not opened
    running.refresh()
    assert opened == [Path("/proc/kallsyms")]


def test_every_frame_of_the_dump(oracle_records: list[Record]) -> None:
    """Each frame of a real page_owner matches its address in the same kernel's symbols."""
    data = kernel_file("kallsyms.txt")
    symbols = Kallsyms(data)
    addresses: dict[bytes, list[int]] = {}
    for digits, name in re.findall(rb"(?m)^([0-9a-f]{16}) . (\S+)", data):
        addresses.setdefault(name, []).append(int(digits, 16))
    lines: set[bytes] = set()
    for stacktrace in {record.stacktrace for record in oracle_records}:
        lines.update(re.findall(rb"(?m)^ .*\n", stacktrace))
    frames = 0
    for line in lines:
        found = re.match(rb" ([^+ ]+)\+(0x[0-9a-f]+)/0x[0-9a-f]+", line)
        if found is None:
            continue
        frames += 1
        # Several functions may share a name; it must be one of them.
        candidates = [start + int(found[2], 16) for start in addresses[found[1]]]
        assert line in [format_frame(symbols.frame(address)) for address in candidates]
    assert frames > 1000
