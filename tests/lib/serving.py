"""A mount that serves made records with kernel_abi, from a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIB = Path(__file__).resolve().parent
_TIMEOUT = 10.0


@contextmanager
def serving(dump: bytes) -> Iterator[Path]:
    """
    Mount a page_owner with the records of ``dump``, and give the mount point.

    Every user can enter it, and the directory that it is in.
    """
    with tempfile.TemporaryDirectory(prefix="pageownerfs-recorded-") as name:
        top = Path(name)
        top.chmod(0o755)
        path = top / "mnt"
        path.mkdir()
        (top / "dump").write_bytes(dump)
        command: list[str | Path] = [sys.executable, _LIB / "serve_recorded.py"]
        command += [top / "dump", path]
        # A script finds what is in its folder; the package may be found from the checkout only.
        path_list = [str(_LIB.parent.parent), os.environ.get("PYTHONPATH", "")]
        env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path_list))}
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            try:
                assert child.stdout.readline() == "ready\n"
                yield path
                subprocess.run(["fusermount", "-u", path], check=True)
                assert child.wait(_TIMEOUT) == 0
            finally:
                if child.poll() is None:
                    subprocess.run(["fusermount", "-u", "-z", path], check=False)
                    child.kill()
