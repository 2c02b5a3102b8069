"""The layouts in sources/kernel/maps.py match the C headers."""

from __future__ import annotations

import ctypes
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from kernel_process import compile_c

from pageownerfs.mm import page_ext
from pageownerfs.sources.kernel import maps

if TYPE_CHECKING:
    from pathlib import Path

STRUCTURES = {
    "kernel_config": maps.KernelConfig,
    "comm_filter": maps.CommFilter,
    "kernel_addresses": maps.KernelAddresses,
    "cpu_state": maps.CpuState,
    "scan_request": maps.ScanRequest,
    "page_info": maps.PageInfo,
    "page_scan": maps.PageScan,
}
CONSTANTS = {
    name: getattr(maps, name)
    for name in (
        *("STACK_WAYS", "STACK_RESERVED_BUCKETS", "HANDLE_EARLY", "HANDLE_FAILURE"),
        *("NR_PROGRAMS", "NR_COUNTERS", "MAX_STACK_DEPTH", "STACK_WINDOW_WORDS"),
        *("CALIBRATION_PAGES", "PAGE_SCAN_BATCH", "COMM_WORDS"),
        *("PAGE_MEMCG_SLAB", "PAGE_MEMCG_KMEM", "PAGE_MEMCG_ONLINE", "PAGE_MEMCG_ID_SHIFT"),
    )
}
SIZES = {
    "struct stack_node": maps.STACK_NODE_BYTES,
    "struct cgroup_name": maps.CGROUP_NAME_BYTES,
    "struct page_owner": page_ext.PAGE_OWNER_STRUCT.size,
}


def in_c(directory: Path, expressions: list[str]) -> list[int]:
    """Let the compiler evaluate expressions."""
    lines = "".join(f'\tprintf("%lu\\n", (unsigned long)({e}));\n' for e in expressions)
    source = directory / "layout.c"
    source.write_text(
        "#include <stddef.h>\n#include <stdio.h>\n"
        '#include "bpf/kernel_source.h"\n#include "base/page_scan.h"\n'
        f"int main(void)\n{{\n{lines}\treturn 0;\n}}\n"
    )
    program = compile_c(source, directory / "layout")
    done = subprocess.run([program], capture_output=True, text=True, check=True)
    return [int(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures(tmp_path: Path, name: str) -> None:
    """Fields have C's offsets and sizes, with nothing between or after them."""
    structure = STRUCTURES[name]
    fields = [field[0] for field in structure._fields_]
    expressions = [
        f"{what}" for field in fields for what in (
            f"offsetof(struct {name}, {field})", f"sizeof(((struct {name} *)0)->{field})",
        )
    ]  # fmt: skip
    *found, size = in_c(tmp_path, [*expressions, f"sizeof(struct {name})"])
    ours = [
        number
        for field in fields
        for number in (getattr(structure, field).offset, getattr(structure, field).size)
    ]
    assert found == ours
    assert size == ctypes.sizeof(structure)
    # The kernel rounds map values up to 8 bytes, so ours must be multiples of 8.
    assert size % 8 == 0
    end = 0
    for offset, length in zip(found[::2], found[1::2], strict=True):
        assert offset == end
        end += length
    assert end == size


def test_constants(tmp_path: Path) -> None:
    """Constants and sizes match."""
    expressions = [*CONSTANTS, *(f"sizeof({name})" for name in SIZES)]
    wanted = {**CONSTANTS, **SIZES}
    assert dict(zip(wanted, in_c(tmp_path, expressions), strict=True)) == wanted


def test_counters(tmp_path: Path) -> None:
    """The counters have the names and the order of ``enum counter``."""
    names = [f"COUNT_{name.upper()}" for name in maps.COUNTERS]
    assert in_c(tmp_path, names) == list(range(len(names)))
    assert len(names) <= maps.NR_COUNTERS
    native = page_ext.__file__.replace("mm/page_ext.py", "native/bpf/kernel_source.h")
    with open(native, encoding="utf-8") as file:  # noqa: PTH123
        declared = re.findall(r"^\t(COUNT_\w+),", file.read(), re.MULTILINE)
    assert declared == names


def test_states(tmp_path: Path) -> None:
    """The bits of a record's state match."""
    names = [name for name in dir(page_ext) if name.startswith("PAGE_EXT_OWNER_")]
    assert in_c(tmp_path, names) == [getattr(page_ext, name) for name in names]
