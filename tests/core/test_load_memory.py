"""A dump loads and groups correctly when memory is short, and with any alignment of memory."""

import random
import re
import subprocess
from pathlib import Path

import pytest
from core_sources import NATIVE, core_sources
from dumps import V6_12, make_dump

WRAPPED = ("malloc", "calloc", "realloc")
# Misaligned access traps, as on machines that cannot do it.
ALIGNMENT = ("-fsanitize=alignment,null,bounds", "-fsanitize-undefined-trap-on-error")


def compiled(directory: Path, *options: str) -> Path:
    """Compile load_memory.c with the core."""
    program = directory / "load_memory"
    wrap = [f"-Wl,--wrap={name}" for name in WRAPPED]
    flags = ["-O1", "-g", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-pthread", f"-I{NATIVE}"]
    source = Path(__file__).with_name("load_memory.c")
    command = ["cc", *flags, *options, *wrap, "-o", program, source, *core_sources()]
    subprocess.run(command, check=True)
    return program


def run(program: Path, path: Path) -> tuple[int, int]:
    """Let each allocation fail once; return how many there were."""
    done = subprocess.run([program, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.returncode}: {done.stdout}{done.stderr}"
    loading, grouping = map(int, re.findall("[0-9]+", done.stdout))
    return loading, grouping


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write records with many stacks, modules and masks, some of which must be kept as text."""
    records = make_dump(random.Random("memory"), eras=[V6_12], nr_records=100).data
    reason = b"Page has been migrated, last migrate reason: compaction\n"
    more = b"".join(
        b"Page allocated via order 0, mask %#x(GFP_KERNEL), pid 7, tgid 6 (a), ts 1000 ns\n"
        b"PFN %#x type T%d Block 0 type Movable Flags %#x(n%d|node=0|zone=%d)\n"
        b" f%d+0x1/0x2 [m%d]\n%b\n"
        % (0xCC0 + i % 90 * 4096, i, i % 90, i, i % 100, i % 4, i, i, reason * (i % 2))
        for i in range(200)
    )
    path = tmp_path_factory.mktemp("dump") / "page_owner"
    path.write_bytes(records + more)
    return path


@pytest.mark.slow
def test_each_allocation_fails(tmp_path: Path, dump: Path) -> None:
    """Whichever allocation fails, no record is lost, repeated, or has another's stack."""
    loading, grouping = run(compiled(tmp_path), dump)
    assert loading > 60
    assert grouping > 20


@pytest.mark.slow
def test_alignment(tmp_path: Path, dump: Path) -> None:
    """Nothing is read at an address that is misaligned for its type."""
    run(compiled(tmp_path, *ALIGNMENT), dump)
