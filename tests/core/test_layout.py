"""The shared structures have one layout in C, in Python and for a separate compiler."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from page_owner_layout import PAGE_OWNER_LAYOUT

from pageownerfs import _native
from pageownerfs.mm.page_ext import PAGE_OWNER_STRUCT, PageOwner

if TYPE_CHECKING:
    from collections.abc import Callable

    from pageownerfs.client import Pool

NATIVE = Path(__file__).resolve().parents[2] / "pageownerfs" / "native"
DESIGN = {
    "ts_nsec": 0,
    "free_ts_nsec": 8,
    "gfp_mask": 16,
    "pid": 20,
    "tgid": 24,
    "handle": 28,
    "free_handle": 32,
    "free_pid": 36,
    "free_tgid": 40,
    "order": 44,
    "last_migrate_reason": 45,
    "state": 46,
    "pageblock_migratetype": 47,
    "comm": 48,
}
"""Offsets that programs outside this package may rely on."""


def test_core_against_python() -> None:
    """The core's offsets of struct page_owner match Python's and the design's."""
    core = dict(_native.LAYOUT["struct page_owner"])
    assert core.pop("") == PAGE_OWNER_STRUCT.size == 64
    assert core == PAGE_OWNER_LAYOUT == DESIGN


def test_header_alone(tmp_path: Path) -> None:
    """page_owner.h compiles alone, with the same offsets and sizes."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler on PATH")
    members = "".join(
        f'P("{name}", offsetof(struct page_owner, {name}), sizeof(record.{name}));'
        for name in PAGE_OWNER_LAYOUT
    )
    source = tmp_path / "layout.c"
    source.write_text(
        "#include <stddef.h>\n#include <stdio.h>\n#include <base/page_owner.h>\n"
        '#define P(name, at, size) printf("%s %zu %zu\\n", name, (size_t)(at), (size_t)(size))\n'
        f"static struct page_owner record;\nint main(void) {{ {members} return 0; }}\n"
    )
    program = tmp_path / "layout"
    options = ["-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{NATIVE}"]
    subprocess.run([compiler, *options, "-o", program, source], check=True)
    lines = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    found = {name: (int(at), int(size)) for name, at, size in map(str.split, lines.splitlines())}
    sizes = dict(zip(PAGE_OWNER_LAYOUT, [8, 8, *[4] * 7, *[1] * 4, 16], strict=True))
    assert found == {name: (at, sizes[name]) for name, at in PAGE_OWNER_LAYOUT.items()}


def page_ext_pfn(pool: Pool) -> int:
    """Return where page_ext will be: the reserved pages except PFN 0."""
    pfns = range(1, pool.nr_pages)
    return next(pfn for pfn in pfns if pool.page_info(pfn).state == "reserved")


@pytest.mark.require("shm")
def test_bytes_in_the_file(make_pool: Callable[..., Pool]) -> None:
    """The bytes in the shared file are records, and agree with page_info()."""
    pool = make_pool()
    start = page_ext_pfn(pool) * _native.PAGE_SIZE
    pool.enable_page_owner(pool.capture_stack, pool.capture_stack)
    pages = [pool.alloc_pages(order) for order in (0, 3, 9)]
    freed = pool.alloc_pages(2)
    pool.free_pages(freed)
    with Path(pool.path).open("rb") as file:
        for pfn in [page.pfn + nr for page in (*pages, freed) for nr in range(1 << page.order)]:
            file.seek(start + pfn * PAGE_OWNER_STRUCT.size)
            record = PageOwner.unpack(file.read(PAGE_OWNER_STRUCT.size))
            assert record == pool.page_info(pfn).page_owner
            assert record.pack() == PAGE_OWNER_STRUCT.pack(*record)


@pytest.mark.require("shm")
def test_struct_page_in_the_file(pool: Pool) -> None:
    """Each struct page follows the last page frame in C's layout."""
    layout = _native.LAYOUT["struct page"]
    page = pool.alloc_pages(4, 0x40CC0)
    with Path(pool.path).open("rb") as file:
        file.seek(pool.nr_pages * _native.PAGE_SIZE + page.pfn * layout[""])
        record = file.read(layout[""])
    (flags,) = struct.unpack_from("<Q", record, layout["flags"])
    (word,) = struct.unpack_from("<Q", record, layout["word"])
    (gfp_mask,) = struct.unpack_from("<I", record, layout["gfp_mask"])
    info = pool.page_info(page.pfn)
    assert flags == info.flags
    assert word & 0xFFFFFFFF == info.refcount == 1
    assert word >> 32 & 0xFF == info.order == 4
    assert gfp_mask == 0x40CC0
