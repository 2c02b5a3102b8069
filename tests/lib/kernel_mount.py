"""A mount of the kernel source, with its daemon."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil
from kernel_bpf import BpfIds, bpf_ids, bpf_left

from pageownerfs.page_owner_sort import parse_records, read_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pageownerfs.page_owner_sort import Record

MODULE: Final = (sys.executable, "-m", "pageownerfs")
_START: Final = b"Page allocated via order "
_TGID: Final = re.compile(rb", tgid (\d+) \(")
_PFN: Final = re.compile(rb"\nPFN 0x([0-9a-f]+) type ")
_TIMEOUT: Final = 60.0
_GONE_TIMEOUT: Final = 20.0


def wait_until(condition: Callable[[], bool], timeout: float = _GONE_TIMEOUT) -> bool:
    """Poll the condition until it holds; whether it did in time."""
    deadline = time.monotonic() + timeout
    while not (held := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return held


def run_pageownerfs(*args: str | Path) -> subprocess.CompletedProcess[bytes]:
    """Run the command to its end; the caller looks at the exit code."""
    line = [*MODULE, *map(str, args)]
    return subprocess.run(line, capture_output=True, timeout=_TIMEOUT, check=False)


class KernelMount:
    """One such mount; end() takes it away and sees that nothing is left."""

    def __init__(self, path: Path, *options: str) -> None:
        """Mount on the directory, and return once the mount answers."""
        self.path = path
        self.killed = False
        """Set by a test that kills the daemon: then its mount is taken away, not missed."""
        args = [word for option in options for word in ("-o", option)]
        # Not to a pipe: a daemon that keeps it open would make us wait.
        with (path.parent / f"{path.name}.log").open("w+") as output:
            line = [*MODULE, "kernel", str(path), *args]
            done = subprocess.run(
                line, stdout=output, stderr=output, stdin=subprocess.DEVNULL, check=False
            )
            output.seek(0)
            self.messages = output.read()
        assert done.returncode == 0, self.messages
        self.pid = int(self.status()["pid"])
        self._seen = bpf_ids(self.pid)

    @property
    def page_owner(self) -> Path:
        """The file."""
        return self.path / "page_owner"

    def status(self) -> dict[str, Any]:
        """What ``pageownerfs status --json`` says of it."""
        done = run_pageownerfs("status", "--json", self.path)
        assert done.returncode == 0, done.stderr
        status: dict[str, Any] = json.loads(done.stdout)
        return status

    def stats(self) -> dict[str, int]:
        """The file ``stats``."""
        lines = (self.path / "stats").read_text().splitlines()
        return {name: int(value) for name, value in (line.split(" ") for line in lines)}

    def bpf_ids(self) -> BpfIds:
        """Its programs and maps, now and earlier."""
        if psutil.pid_exists(self.pid):
            now = bpf_ids(self.pid)
            self._seen = BpfIds(self._seen.programs | now.programs, self._seen.maps | now.maps)
        return self._seen

    def records(self) -> Iterator[Record]:
        """All records of the text; the whole of it must be well-formed."""
        return read_records(str(self.page_owner), _refuse)

    def _texts(self) -> list[bytes]:
        """Records as they are in the text, without their beginning, which is always the same."""
        text = b"\n\n" + self.page_owner.read_bytes()
        return text.removesuffix(b"\n\n").split(b"\n\n" + _START)

    def texts_of(self, *tgids: int) -> list[bytes]:
        """Records of some processes as they are in the text, which is read whole."""
        wanted = {str(tgid).encode() for tgid in tgids}
        tgid_of = _TGID.search  # comes before the name, which may be anything
        return [
            _START + text + b"\n\n"
            for text in self._texts()
            if (found := tgid_of(text)) and found[1] in wanted
        ]

    def heads_at(self, pfns: set[int]) -> dict[int, Record]:
        """Records that begin at these PFNs; the others are not looked at closely."""
        wanted = {f"{pfn:x}".encode() for pfn in pfns}
        texts = [
            _START + text + b"\n\n"
            for text in self._texts()
            if (found := _PFN.search(text)) and found[1] in wanted
        ]
        records = parse_records(b"".join(texts), _refuse)
        return {record.pfn: record for record in records if record.pfn is not None}

    def records_of(self, *tgids: int) -> dict[int, Record]:
        """Records of some processes, by PFN; the others are not looked at closely."""
        found = {}
        for record in parse_records(b"".join(self.texts_of(*tgids)), _refuse):
            assert record.pfn is not None
            found[record.pfn] = record
        return found

    def records_at(self, pfns: set[int], *tgids: int) -> dict[int, Record]:
        """Records of pages, or those of some processes; each page of a block has the block's."""
        found = {}
        for record in self.records_of(*tgids).values() if tgids else self.records():
            assert record.pfn is not None
            for pfn in range(record.pfn, record.pfn + record.nr_base_pages):
                if pfn in pfns:
                    found[pfn] = record
        return found

    @property
    def mounted(self) -> bool:
        """Whether /proc/self/mounts has it."""
        lines = Path("/proc/self/mounts").read_text(errors="surrogateescape").splitlines()
        return str(self.path) in {line.split(" ")[1] for line in lines}

    def umount(self) -> None:
        """Unmount by ``pageownerfs umount``."""
        self.bpf_ids()
        done = run_pageownerfs("umount", self.path)
        assert done.returncode == 0, done.stderr

    def end(self) -> None:
        """Unmount if it still is to be done; no mount, daemon, program or map may be left."""
        ids = self.bpf_ids()
        try:
            if self.mounted and not self.killed:
                self.umount()
            self.assert_nothing_runs()
            assert self.killed or not self.mounted, f"{self.path} is still mounted"
        finally:
            if self.mounted:
                subprocess.run(["umount", "-l", self.path], check=False, capture_output=True)
            if not self._dead():
                psutil.Process(self.pid).kill()
        assert not any(bpf_left(ids)), bpf_left(ids)

    def assert_nothing_runs(self) -> None:
        """See that the daemon has ended, and that its programs and maps are gone with it."""
        assert wait_until(self._dead), f"the daemon {self.pid} still runs"
        # The kernel frees them some time after the last descriptor is closed.
        assert wait_until(lambda: not any(bpf_left(self._seen))), bpf_left(self._seen)

    def _dead(self) -> bool:
        try:
            return bool(psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return True


def _refuse(damage: object) -> None:
    raise AssertionError(damage)
