"""Reading a table of the kernel source whose records change meanwhile."""

from __future__ import annotations

import mmap
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

import pytest
from kernel_tables import (
    EARLY,
    FREE,
    NATIVE,
    PLAIN,
    Info,
    kernel_table,
    read_all,
    record_text,
    text,
)

from pageownerfs import _native

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


NR_PAIRS: Final = 64
NR_RECORDS: Final = 500_000
NR_WRITERS: Final = 2
NR_KINDS: Final = 4
# Writes the records of two pages like the BPF programs, until killed; all fields of a record have
# the number of its kind. The kind after the last one is early.
CHANGE_HANDS: Final = r"""
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "base/page_owner.h"

#define STORE(type, field, value) \
	atomic_store_explicit((_Atomic type *)&(field), (value), memory_order_release)

int main(int argc, char **argv)
{
	int fd = argc == 3 ? open(argv[1], O_RDWR) : -1;
	struct page_owner *pair = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (pair == MAP_FAILED)
		return 1;
	pair += 2 * atoi(argv[2]);
	for (u64 ts = 1;; ts++) {
		u32 number = 100 + ts % 5;

		for (struct page_owner *owner = pair; owner < pair + 2; owner++)
			STORE(u8, owner->state, PAGE_EXT_OWNER_FREED);
		for (struct page_owner *owner = pair; owner < pair + 2; owner++) {
			u32 *word = (u32 *)&owner->order, old = *word;

			if (number == 104) {
				atomic_compare_exchange_strong((_Atomic u32 *)word, &old, old | 5u << 16);
				continue;
			}
			STORE(u64, owner->ts_nsec, ts);
			owner->gfp_mask = owner->handle = number;
			owner->pid = owner->tgid = number;
			owner->order = number & 1;
			memset(owner->comm, number, 15);
			STORE(u8, owner->state, PAGE_EXT_OWNER_ALLOCATED);
		}
	}
}
"""


@pytest.fixture
def changing(tmp_path: Path) -> Iterator[mmap.mmap]:
    """Yield a table in which two processes change records all the time."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not (NATIVE / "base/page_owner.h").is_file():
        pytest.skip("needs a C compiler, and page_owner.h in the package")
    source, command = tmp_path / "change_hands.c", tmp_path / "change_hands"
    source.write_text(CHANGE_HANDS)
    subprocess.run([compiler, "-O2", "-I", NATIVE, "-o", command, source], check=True)
    path = tmp_path / "table"
    path.write_bytes(FREE.pack() * 64)
    with path.open("r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    writers = [subprocess.Popen([command, path, str(number)]) for number in range(NR_WRITERS)]
    try:
        yield memory
        assert [writer.poll() for writer in writers] == [None] * NR_WRITERS
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()


def test_no_torn_record(changing: mmap.mmap) -> None:
    """While processes change records, each record that is read belongs to one allocation."""
    kinds = [record_text(0, EARLY, Info(0, 0, 1))]
    for number in range(100, 100 + NR_KINDS):
        owner = PLAIN._replace(gfp_mask=number, handle=number, pid=number, tgid=number)
        owner = owner._replace(order=number & 1, comm=b"%c" % number * 15)
        kinds.append(record_text(0, owner, Info(0, 0, 1)))
    patterns = []
    for kind in kinds:
        one = re.escape(kind).replace(re.escape(b"PFN 0x0 "), rb"PFN 0x[0-3] ")
        one = one.replace(re.escape(b"ts 1000 ns"), rb"ts [0-9]+ ns")
        patterns.append(re.compile(one))
    table = kernel_table(changing, 2 * NR_WRITERS)
    renderer = _native.Renderer(table, text)
    seen = [0] * len(patterns)
    while sum(seen) < NR_RECORDS or not all(seen):
        rest = b"".join(read_all(renderer) for _ in range(1000))
        for number, pattern in enumerate(patterns):
            rest, nr_found = pattern.subn(b"", rest)
            seen[number] += nr_found
        assert rest == b""
        table.states()
