"""A mount that serves generated records with kernel_abi, from a separate process."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mounts import served

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def serving(dump: bytes) -> Iterator[Path]:
    """
    Mount a page_owner with the records of ``dump``, and yield the mount point.

    Every user can enter it and the directory that contains it.
    """
    with tempfile.TemporaryDirectory(prefix="pageownerfs-recorded-") as name:
        top = Path(name)
        top.chmod(0o755)
        path = top / "mnt"
        path.mkdir()
        (top / "dump").write_bytes(dump)
        with served("serve_recorded.py", path, top / "dump"):
            yield path
