"""The C core as tests compile it: by room, without the bindings and the BPF programs."""

from pathlib import Path
from typing import Final

NATIVE: Final = Path(__file__).resolve().parents[2] / "pageownerfs" / "native"
"""Where ``#include "ROOM/FILE.h"`` starts."""

_OTHERS: Final = ("bpf", "python")


def core_sources() -> list[Path]:
    """Return every .c file of the core except the bindings and the BPF programs."""
    return [path for path in sorted(NATIVE.glob("*/*.c")) if path.parent.name not in _OTHERS]
