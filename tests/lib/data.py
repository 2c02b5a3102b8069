"""What is in tests/data: its README says where each file comes from."""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import Final

DATA: Final = Path(__file__).resolve().parent.parent / "data"
KERNEL: Final = DATA / "linux-6.12"
"""Files of one real kernel."""
PAGE_OWNER: Final = KERNEL / "page_owner.txt.xz"
"""Its whole page_owner."""
SAMPLE: Final = DATA / "oracle_sample.txt"
"""A record of each kind of it, not packed."""
TRACE: Final = KERNEL / "trace_mm_page_alloc.txt.xz"
TRACE_SAMPLE: Final = DATA / "trace_sample.txt"


def kernel_file(name: str) -> bytes:
    """Contents of a file of the kernel, which is packed if there is only ``NAME.xz``."""
    path = KERNEL / name
    return path.read_bytes() if path.exists() else lzma.decompress(Path(f"{path}.xz").read_bytes())
