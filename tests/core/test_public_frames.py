"""The frame walk for interpreters of unknown layout, which uses the public API only."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.require("shm")
def test_same_stacks(tmp_path: Path) -> None:
    """Built without the interpreter's own headers, the core finds the same frames."""
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    for folder in ("pageownerfs", "scripts/build", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    for file in ("setup.py", "setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / file, tmp_path)
    environment = {**os.environ, "CFLAGS": "-DPAGEOWNERFS_PUBLIC_FRAMES -O1"}
    build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(build, cwd=tmp_path, env=environment, check=True, capture_output=True)
    # An editable install would find the checkout first.
    code = (
        "import sys; sys.path.insert(0, '.'); import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    )
    tests = ["-q", "-p", "no:cacheprovider", "tests/core/test_pystack.py"]
    line = [sys.executable, "-c", code, *tests]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
