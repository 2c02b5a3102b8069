"""A mount of the kernel source and its daemon."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import psutil
from kernel_bpf import BpfIds, bpf_ids, bpf_left
from mounts import Mount, wait_until

from pageownerfs.page_owner_sort import parse_records, read_records

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pageownerfs.page_owner_sort import Record

_START: Final = b"Page allocated via order "
_TGID: Final = re.compile(rb", tgid (\d+) \(")
_PFN: Final = re.compile(rb"\nPFN 0x([0-9a-f]+) type ")


class KernelMount(Mount):
    """A mount of the kernel source, of which no BPF program and no map may be left either."""

    def __init__(self, path: Path, *options: str) -> None:
        """Mount on the directory."""
        super().__init__("kernel", path, *options)
        self._seen = bpf_ids(self.pid)

    @property
    def page_owner(self) -> Path:
        """Return the path of page_owner."""
        return self.path / "page_owner"

    def bpf_ids(self) -> BpfIds:
        """Return the ids of its programs and maps, current and earlier ones."""
        if psutil.pid_exists(self.pid):
            now = bpf_ids(self.pid)
            self._seen = BpfIds(self._seen.programs | now.programs, self._seen.maps | now.maps)
        return self._seen

    def records(self) -> Iterator[Record]:
        """Return all records of the text, which must be well-formed as a whole."""
        return read_records(str(self.page_owner), _refuse)

    def _texts(self) -> list[bytes]:
        """Yield each record's text without its beginning, which is always the same."""
        text = b"\n\n" + self.page_owner.read_bytes()
        return text.removesuffix(b"\n\n").split(b"\n\n" + _START)

    def texts_of(self, *tgids: int) -> list[bytes]:
        """Return the text of the records of some processes; the file is read completely."""
        wanted = {str(tgid).encode() for tgid in tgids}
        tgid_of = _TGID.search  # the first match precedes the name, which may be anything
        return [
            _START + text + b"\n\n"
            for text in self._texts()
            if (found := tgid_of(text)) and found[1] in wanted
        ]

    def heads_at(self, pfns: set[int]) -> dict[int, Record]:
        """Return the records that begin at these PFNs; other records are only skimmed."""
        wanted = {f"{pfn:x}".encode() for pfn in pfns}
        texts = [
            _START + text + b"\n\n"
            for text in self._texts()
            if (found := _PFN.search(text)) and found[1] in wanted
        ]
        records = parse_records(b"".join(texts), _refuse)
        return {record.pfn: record for record in records if record.pfn is not None}

    def records_of(self, *tgids: int) -> dict[int, Record]:
        """Return the records of some processes by PFN; other records are only skimmed."""
        found = {}
        for record in parse_records(b"".join(self.texts_of(*tgids)), _refuse):
            assert record.pfn is not None
            found[record.pfn] = record
        return found

    def records_at(self, pfns: set[int], *tgids: int) -> dict[int, Record]:
        """Return the records of pages or of processes; each page of a block maps to its record."""
        found = {}
        for record in self.records_of(*tgids).values() if tgids else self.records():
            assert record.pfn is not None
            for pfn in range(record.pfn, record.pfn + record.nr_base_pages):
                if pfn in pfns:
                    found[pfn] = record
        return found

    def umount(self) -> None:
        """Unmount with ``pageownerfs umount``."""
        self.bpf_ids()
        super().umount()

    def assert_ended(self) -> None:
        """Check that the daemon has ended, and its programs and maps with it."""
        super().assert_ended()
        # The kernel frees them some time after the last descriptor is closed.
        assert wait_until(lambda: not any(bpf_left(self._seen))), bpf_left(self._seen)

    def end(self) -> None:
        """Unmount if necessary; no mount, daemon, program or map may be left."""
        self.bpf_ids()
        super().end()
        self.assert_ended()


def _refuse(damage: object) -> None:
    raise AssertionError(damage)
