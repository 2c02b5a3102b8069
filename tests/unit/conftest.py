"""Records of a real page_owner: the sample in tests/data, and a whole dump where there is one."""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import re

    Records = list[re.Match[bytes]]

ROOT = Path(__file__).resolve().parent.parent.parent
DATA = ROOT / "tests" / "data"
DUMP_NAME = "page_owner_full.txt.xz"


@pytest.fixture(scope="session")
def extract_vocabulary() -> dict[str, Any]:
    """scripts/extract-vocabulary, whose functions read dumps."""
    return runpy.run_path(str(ROOT / "scripts" / "extract-vocabulary"))


@pytest.fixture(scope="session")
def oracle_sample(extract_vocabulary: dict[str, Any]) -> Records:
    """Records of tests/data/oracle_sample.txt."""
    dump = (DATA / "oracle_sample.txt").read_bytes()
    return list(extract_vocabulary["parse_records"](dump))


@pytest.fixture(scope="session")
def oracle_dump() -> Path:
    """The whole dump: a file or its folder named by PAGEOWNERFS_ORACLE, or found beside us."""
    given = os.environ.get("PAGEOWNERFS_ORACLE")
    path = Path(given) if given else ROOT.parent / "shared" / "oracle"
    if path.is_dir():
        path /= DUMP_NAME
    if given and not path.is_file():
        pytest.fail(f"PAGEOWNERFS_ORACLE names {path}, which is no file.")
    if not path.is_file():
        pytest.skip("There is no whole dump of a kernel here; PAGEOWNERFS_ORACLE may name one.")
    return path


@pytest.fixture(scope="session")
def oracle_records(extract_vocabulary: dict[str, Any], oracle_dump: Path) -> Records:
    """Every record of the whole dump."""
    dump = extract_vocabulary["read_dump"](oracle_dump)
    return list(extract_vocabulary["parse_records"](dump))
