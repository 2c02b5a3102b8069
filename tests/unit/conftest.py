"""Records of a real page_owner: a sample, and all."""

from __future__ import annotations

import pytest
from data import PAGE_OWNER, SAMPLE

from pageownerfs.page_owner_sort import Record, parse_records, read_records


@pytest.fixture(scope="session")
def oracle_sample() -> list[Record]:
    """Return one record of each kind."""
    return list(parse_records(SAMPLE.read_bytes()))


@pytest.fixture(scope="session")
def oracle_records() -> list[Record]:
    """Return every record of the complete dump."""
    return list(read_records(str(PAGE_OWNER)))
