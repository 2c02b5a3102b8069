"""Mix pageblocks on a kernel with page_owner, save its files, and compare ours with them.

compare_views.py collect DIRECTORY
compare_views.py compare DIRECTORY
"""

from __future__ import annotations

import contextlib
import mmap
import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pageownerfs.sources.dump import DumpOptions, DumpSource
from pageownerfs.views.pagetypeinfo import pagetypeinfo

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE_SIZE = 4096
CHUNK_BYTES = 1 << 20
NR_ROUNDS = 3
KEPT_KIB = 6000
"""Free memory to leave alone; with less, the machine would kill this process."""
HOLE_STEP = 5
"""One page in this many is given back, so that free memory is in many pieces."""
MAX_PIPES = 1500
DEBUGFS = Path("/sys/kernel/debug")
MIXED = "Number of mixed blocks"


def free_kib() -> int:
    """Return the machine's free memory."""
    return int(Path("/proc/meminfo").read_text().partition("MemFree:")[2].split()[0])


def fill() -> list[mmap.mmap]:
    """Fill memory with movable pages and make one-page holes."""
    chunks = []
    while free_kib() > KEPT_KIB:
        chunk = mmap.mmap(-1, CHUNK_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for offset in range(0, CHUNK_BYTES, PAGE_SIZE):
            chunk[offset] = 1
        chunks.append(chunk)
    for chunk in chunks:
        for offset in range(0, CHUNK_BYTES, HOLE_STEP * PAGE_SIZE):
            chunk.madvise(mmap.MADV_DONTNEED, offset, PAGE_SIZE)
    return chunks


def make_pipes() -> list[tuple[int, int]]:
    """Fill the holes with unmovable pages, which must go to movable blocks."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    pipes: list[tuple[int, int]] = []
    while free_kib() > KEPT_KIB * 3 // 2 and len(pipes) < MAX_PIPES:
        readable, writable = os.pipe()
        os.set_blocking(writable, False)
        with contextlib.suppress(BlockingIOError):
            os.write(writable, b"x" * 65536)
        pipes.append((readable, writable))
    return pipes


def reads(path: Path) -> Iterator[bytes]:
    """Read unbuffered: page_owner returns ENOMEM if a record exceeds the rest of a buffer."""
    with path.open("rb", buffering=0) as file:
        while data := file.read(1 << 16):
            yield data


def collect(directory: Path) -> int:
    """Save the files a few times while blocks are being freed."""
    Path("/sys/kernel/mm/transparent_hugepage/enabled").write_text("never")
    Path("/proc/sys/vm/min_free_kbytes").write_text("300")
    chunks = fill()
    pipes = make_pipes()
    for number in range(NR_ROUNDS):
        for name, path in (
            ("before", Path("/proc/pagetypeinfo")),
            ("page_owner", DEBUGFS / "page_owner"),
            ("after", Path("/proc/pagetypeinfo")),
            ("show_stacks", DEBUGFS / "page_owner_stacks/show_stacks"),
        ):
            # Read in pieces: there is no memory for the whole text.
            with (directory / f"{name}{number}").open("wb") as file:
                file.writelines(reads(path))
        for pipe in pipes[number * 100 : number * 100 + 60]:
            for descriptor in pipe:
                os.close(descriptor)
        del chunks[number * 10 : number * 10 + 8]
    return 0


def mixed_blocks(text: str) -> list[str]:
    """Return the lines of the section."""
    return text.partition(MIXED)[2].splitlines()[1:]


def stacks_of(text: bytes) -> dict[bytes, int]:
    """Return the pages of each stack in show_stacks."""
    counts = {}
    for entry in filter(None, text.split(b"\n\n")):
        stack, _, pages = entry.rpartition(b"nr_base_pages: ")
        counts[stack] = int(pages)
    return counts


def compare(directory: Path) -> int:
    """Print ours next to the kernel's; return 0 if the mixed blocks are equal."""
    equal = True
    for number in range(NR_ROUNDS):
        source = DumpSource(DumpOptions(path=os.fspath(directory / f"page_owner{number}")))
        ours = mixed_blocks(pagetypeinfo(source).decode())
        theirs = [
            mixed_blocks((directory / f"{name}{number}").read_text())
            for name in ("before", "after")
        ]
        print(f"{number}: mixed blocks {'equal' if ours in theirs else 'DIFFERENT'}")
        print(*ours, sep="\n")
        if ours not in theirs:
            equal = False
            print("the kernel's, before and after:", *theirs[0], *theirs[1], sep="\n")
        counts = {source.stack_text(handle): pages for handle, pages in source.stack_counts()}
        kernel = stacks_of((directory / f"show_stacks{number}").read_bytes())
        differ = {s for s in counts | kernel if counts.get(s) != kernel.get(s)}
        pages = sum(abs(counts.get(s, 0) - kernel.get(s, 0)) for s in differ)
        print(
            f"{number}: stacks {len(counts)}, the kernel's {len(kernel)}; {len(differ)} differ, "
            f"by {pages} of {sum(kernel.values())} pages"
        )
    return 0 if equal else 1


if __name__ == "__main__":
    run = {"collect": collect, "compare": compare}[sys.argv[1]]
    raise SystemExit(run(Path(sys.argv[2])))
