"""Records of a real page_owner: the sample in tests/data, and a whole dump where there is one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pageownerfs.page_owner_sort import Record, parse_records, read_records

ROOT = Path(__file__).resolve().parent.parent.parent
DATA = ROOT / "tests" / "data"
DUMP_NAME = "page_owner_full.txt.xz"


@pytest.fixture(scope="session")
def oracle_sample() -> list[Record]:
    """Records of tests/data/oracle_sample.txt."""
    return list(parse_records((DATA / "oracle_sample.txt").read_bytes()))


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
def oracle_records(oracle_dump: Path) -> list[Record]:
    """Every record of the whole dump."""
    return list(read_records(str(oracle_dump)))
