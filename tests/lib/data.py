"""The files of tests/data; its README says where each comes from."""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import Final

DATA: Final = Path(__file__).resolve().parent.parent / "data"
KERNEL: Final = DATA / "linux-6.12"
"""Files of one real kernel."""
PAGE_OWNER: Final = KERNEL / "page_owner.txt.xz"
"""Its complete page_owner."""
SAMPLE: Final = DATA / "oracle_sample.txt"
"""Uncompressed: one record of each kind in it."""
TRACE: Final = KERNEL / "trace_mm_page_alloc.txt.xz"
TRACE_SAMPLE: Final = DATA / "trace_sample.txt"


def kernel_file(name: str) -> bytes:
    """Return the contents of a kernel file, which is compressed if only ``NAME.xz`` exists."""
    path = KERNEL / name
    return path.read_bytes() if path.exists() else lzma.decompress(Path(f"{path}.xz").read_bytes())
