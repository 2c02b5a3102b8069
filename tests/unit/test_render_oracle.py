"""The renderer against a real kernel: the same records give the same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from open_files import read_at
from recorded import KERNEL_ONLY, RecordedSource, Records

from pageownerfs.views import make_tree
from pageownerfs.views.page_owner import PageOwnerView

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.require("shm")


def rendered(records: Records) -> Iterator[bytes]:
    """Yield the text of page_owner for these records, in steps of 128 KiB, and its st_size."""
    source = RecordedSource(records)
    try:
        view = make_tree(source).lookup("page_owner")
        assert isinstance(view, PageOwnerView)
        file = view.open()
        offset = 0
        while data := read_at(file, 128 << 10, offset):
            offset += len(data)
            yield data
        assert view.size() == offset
    finally:
        source.close()


def expected(records: Records) -> bytes:
    """Return the kernel's text in the order of PFNs, without parts that a pool lacks."""
    ordered = sorted(records, key=lambda record: record.pfn or 0)
    return b"".join(KERNEL_ONLY.sub(b"", record.text) for record in ordered)


def consistent(records: Records) -> Records:
    """Keep records whose pageblock has the type of its last record: there can be only one."""
    last = {record.pageblock: record.pageblock_mt for record in records}
    return [r for r in records if last[r.pageblock] == r.pageblock_mt]


def test_sample(oracle_sample: Records) -> None:
    """Each kind of record, including hostile comms, renders as the kernel printed it."""
    records = consistent(oracle_sample)
    assert len(records) > len(oracle_sample) * 0.9
    assert b"".join(rendered(records)) == expected(records)


def test_whole_dump(oracle_records: Records) -> None:
    """All records of a running machine render as the kernel printed them, byte for byte."""
    records = consistent(oracle_records)
    assert len(records) > len(oracle_records) * 0.99
    assert b"".join(rendered(records)) == expected(records)
