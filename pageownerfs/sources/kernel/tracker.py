"""
Load and attach the programs, and access the tables that they fill.

Mirrors init_page_owner() of mm/page_owner.c: make the table, start to track, find the pages that
are already allocated.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import mmap
import os
import struct
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from pageownerfs.errors import MountError
from pageownerfs.mm.kstrtox import format_size
from pageownerfs.mm.zone import PAGEBLOCK_ORDER
from pageownerfs.sources.pid_ns import pid_namespace

from . import maps
from .bpf_object import BpfObject
from .cgroup import opened_cgroup
from .counters import sum_counters
from .features import HOOKS, MIGRATION, REASON, SCANS, select_hooks, select_trackers
from .refusal import step

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pageownerfs.mm.zone import Zone

    from .btf import Btf
    from .kallsyms import Kallsyms
    from .options import KernelOptions

_log = logging.getLogger(__name__)

_RECORD_BYTES: Final = 64
_SECTION_SHIFT: Final = 15  # SECTION_SIZE_BITS - PAGE_SHIFT of x86-64
_SCAN_PFNS: Final = 1 << 19
_STACK_CHECK_EVERY: Final = 1024
# Time between two scans of a page: an event in progress must have arrived by the second.
_SUSPECT_SEC: Final = 0.02
# How often counters are read again because an event was missed meanwhile.
_COUNTER_READS: Final = 5
_CALIBRATION_PAGES: Final = 64
_BASE_ALIGNMENT: Final = 1 << 16
_PID_MASK: Final = (1 << 32) - 1
# Functions that read mem_section, for kernels whose kallsyms have no data symbols.
_MEM_SECTION_USERS: Final = (
    "get_pfnblock_migratetype",
    "get_pfnblock_flags_mask",
    "pfn_to_online_page",
)
_CODE_BYTES: Final = 256
_MIGRATION_PROGRAMS: Final = tuple(hook.program for hook in MIGRATION)


class Early(NamedTuple):
    """Result of scanning a part of a zone."""

    zone: Zone
    """The zone."""
    nr_pages: int
    """Allocated pages without a record."""
    nr_stale: int
    """Free pages with a record that says allocated."""


def _power_of_two(number: int) -> int:
    return 1 << max(number, 1).bit_length() - 1


class Tracker:
    """Loaded and attached programs; close() removes them from the kernel."""

    def __init__(
        self, options: KernelOptions, zones: Sequence[Zone], btf: Btf, kallsyms: Kallsyms
    ) -> None:
        """
        Load and attach the programs.

        :param zones: zones of this machine; the table extends to their highest PFN
        :raises MountError: the kernel refused; nothing is left loaded
        """
        self.options = options
        self.zones = zones
        self.end_pfn = max(zone.start_pfn + zone.spanned_pages for zone in zones)
        self._text = kallsyms.address("_text") or kallsyms.address("_stext") or 0
        self._comm_filter, self._comm_words = (
            options.comm.compile() if options.comm else (maps.CommFilter(), 0)
        )
        self._config = self._make_config(options)
        self._nr_states = os.sysconf("SC_NPROCESSORS_CONF") * maps.NR_PROGRAMS
        self._scan_lock = threading.Lock()
        self.unseen: list[str] = []
        self.pid = self.tgid = 0
        """Pid and tgid of the daemon, as records show them."""
        self._object = self._load(btf)
        try:
            if options.cgroup is not None:
                self._set_cgroup(options.cgroup)
            with step("mapping the tables of its BPF programs"):
                self._map()
            with step("looking for struct page"):
                self._calibrate()
            self._find_mem_section(kallsyms)
            self._attach()
        except BaseException:
            self.close()
            raise

    def _make_config(self, options: KernelOptions) -> maps.KernelConfig:
        nr_nodes = options.stack_depot_bytes // maps.STACK_NODE_BYTES
        namespace = pid_namespace()
        inner = not namespace.is_initial
        return maps.KernelConfig(
            nr_stack_buckets=max(_power_of_two(nr_nodes // maps.STACK_WAYS), 1 << 8),
            stack_depth=options.stack_depth,
            free_stacks=options.free_stacks,
            stack_walk=os.uname().machine == "x86_64",
            stack_check_every=_STACK_CHECK_EVERY,
            text_high=self._text >> 32,
            filter_pid=-1 if options.pid is None else options.pid,
            filter_order=-1 if options.order is None else options.order,
            filter_comm=self._comm_words,
            filter_cgroup=options.cgroup is not None,
            user_depth=options.stack_depth if options.user_stacks else 0,
            pageblock_order=PAGEBLOCK_ORDER,
            section_shift=_SECTION_SHIFT,
            pid_ns_dev=namespace.device if inner else 0,
            pid_ns_ino=namespace.inode if inner else 0,
        )

    # Loading

    def _load(self, btf: Btf) -> BpfObject:
        selection = select_hooks(btf)
        self._config.bulk_array = selection.bulk_array
        self._config.split_order_argument = selection.split_order_argument
        self._size_of_page = btf.size_of("page")
        tracepoints = (*MIGRATION, REASON)
        self._trackers, unseen = select_trackers(btf)
        if unseen:
            self.unseen.append(unseen)
        programs: dict[str, str | None] = dict.fromkeys(
            (*self._trackers, *SCANS, *(hook.program for hook in tracepoints))
        )
        if self.options.hooks:
            programs |= self._accepted(selection.programs)
        self._loaded = programs
        return self._open_table(programs)

    def _accepted(self, hooks: dict[str, str | None]) -> dict[str, str | None]:
        # A kernel that refuses to hook one function refuses the whole object. So try the hooks
        # first: all at once, then one by one.
        if self._refusal_of(hooks) is None:
            return hooks
        refusals = {name: self._refusal_of({name: hooks[name]}) for name in hooks}
        accepted = {name: hooks[name] for name, refusal in refusals.items() if refusal is None}
        # If none is accepted, the kernel does not support hooks at all: don't log each refusal.
        for name, refusal in refusals.items() if accepted else ():
            if refusal is not None:
                _log.info("%s on %s: %s", name, hooks[name], refusal)
        return accepted

    def _refusal_of(self, hooks: dict[str, str | None]) -> str | None:
        try:
            self._open(hooks, 1).close()
        except OSError as error:
            return error.strerror
        return None

    def _open_table(self, programs: dict[str, str | None]) -> BpfObject:
        with step("loading its BPF programs"):
            try:
                return self._open(programs, self.end_pfn)
            except OSError as error:
                if error.errno != errno.ENOMEM:
                    raise
                table = format_size(self.end_pfn * _RECORD_BYTES)
                raise MountError(
                    f"not enough memory for the table of records ({table}, {_RECORD_BYTES} bytes "
                    "per page): free memory"
                ) from error

    def _open(self, programs: dict[str, str | None], nr_records: int) -> BpfObject:
        bpf = BpfObject()
        try:
            bpf.select(programs)
            bpf.set_value(".rodata.config", self._config)
            bpf.set_value(".rodata.comm_filter", self._comm_filter)
            if self.options.cgroup is None:
                bpf.leave_out("filter_cgroup")
            bpf.resize("page_ext", nr_records)
            bpf.resize("stack_depot", self._config.nr_stack_buckets if nr_records > 1 else 1 << 8)
            bpf.resize("cpu_states", self._nr_states)
            bpf.load()
        except BaseException:
            bpf.close()
            raise
        return bpf

    def _set_cgroup(self, path: str) -> None:
        with opened_cgroup(path) as fd, step(f"filtering by the cgroup {path}"):
            self._object.set_fd("filter_cgroup", fd)

    def _map(self) -> None:
        bpf = self._object
        page = mmap.PAGESIZE
        nr_nodes = self._config.nr_stack_buckets * maps.STACK_WAYS

        def pages(size: int) -> int:
            return (size + page - 1) // page * page

        self.table_bytes = pages(self.end_pfn * _RECORD_BYTES)
        self.page_ext = bpf.mmap("page_ext", self.table_bytes)
        self.stack_nodes = bpf.mmap("stack_depot", pages(nr_nodes * maps.STACK_NODE_BYTES))
        self.page_scan = bpf.mmap("page_scan", pages(ctypes.sizeof(maps.PageScan)), writable=True)
        self._state_map = bpf.mmap(
            "cpu_states", pages(ctypes.sizeof(maps.CpuState) * self._nr_states), writable=True
        )
        request = bpf.mmap("scan_request", pages(ctypes.sizeof(maps.ScanRequest)), writable=True)
        self._request = maps.ScanRequest.from_buffer(request)
        self._addresses = maps.KernelAddresses.from_buffer(bpf.mmap(".bss", page, writable=True))
        self._states = (maps.CpuState * self._nr_states).from_buffer(self._state_map)

    @property
    def scan_pages_fd(self) -> int:
        """File descriptor of the program that fills page_scan."""
        return self._object.program_fd("scan_pages")

    # Finding the kernel's tables

    def _calibrate(self) -> None:
        # A program sees the struct page of each page that is faulted in here; /proc/self/pagemap
        # shows its PFN.
        self._request.tgid = os.getpid()
        self._request.nr_pages = 0
        self._object.attach("calibrate")
        with mmap.mmap(-1, _CALIBRATION_PAGES * mmap.PAGESIZE, mmap.MAP_PRIVATE) as memory:
            _advise_small_pages(memory)
            for offset in range(0, len(memory), mmap.PAGESIZE):
                memory[offset] = 1
            self._object.detach("calibrate")
            pfns = pfns_of(memory)
        size = self._size_of_page
        seen = self._request.page[: self._request.nr_pages]
        bases = Counter(page - pfn * size for page in seen for pfn in pfns if pfn)
        likely = [base for base, votes in bases.items() if votes >= _CALIBRATION_PAGES * 3 // 4]
        # Consecutive pages also match a base that is off by one; the true base is aligned.
        base = max(likely, key=lambda base: base & -base, default=0)
        if not base or base % _BASE_ALIGNMENT:
            raise MountError(
                "cannot find the kernel's array of struct page: the programs see no allocations, "
                "or /proc/self/pagemap hides PFNs: run as root"
            )
        self._addresses.vmemmap_base = base
        self.pid, self.tgid = self._request.pid_tgid & _PID_MASK, self._request.pid_tgid >> 32

    def _find_mem_section(self, kallsyms: Kallsyms) -> None:
        # Without it, the current type of a pageblock is unknown, and the record's own is shown.
        address = kallsyms.address("mem_section")
        ranges = [(address, 0)] if address else []
        for name in _MEM_SECTION_USERS:
            code = kallsyms.address(name)
            if code:
                ranges.append((code, code + _CODE_BYTES))
        for start, end in ranges:
            self._request.start, self._request.end = start, end
            try:
                self._object.run("find_mem_section")
            except OSError as error:
                _log.info("cannot run find_mem_section: %s", error.strerror)
            if self._addresses.mem_section:
                return
        self.unseen.append("current types of pageblocks: those at the allocation are shown")

    # Attaching

    def _attach(self) -> None:
        for program in self._trackers:
            with step(f"attaching {program} to its tracepoint"):
                self._object.attach(program)
        optional = [p for p in self._loaded if p not in (*SCANS, *self._trackers)]
        attached = [program for program in optional if self._try_attach(program)]
        for hook in (*HOOKS, REASON):
            if hook.program not in attached and hook.unseen:
                self.unseen.append(hook.unseen)
        if not {"hook_migrate", MIGRATION[0].program} & {*attached}:
            self.unseen.append(MIGRATION[0].unseen)

    def _try_attach(self, program: str) -> bool:
        if program in _MIGRATION_PROGRAMS and "hook_migrate" in self._object.attached:
            return False
        try:
            self._object.attach(program)
        except OSError as error:
            _log.info("cannot attach %s: %s", program, error.strerror)
            return False
        return True

    def close(self) -> None:
        """
        Detach the programs and free the table, once no reader has it mapped.

        stack_words() still works, for snapshots.
        """
        self._object.close()
        for table in ("page_ext", "page_scan"):
            vars(self).pop(table, None)

    @property
    def programs(self) -> list[str]:
        """Names of the attached programs."""
        return self._object.attached

    @property
    def hooks(self) -> list[str]:
        """Names of the attached programs besides the required ones."""
        return [name for name in self._object.attached if name not in self._trackers]

    # Early pages

    def scan_early(self) -> list[Early]:
        """
        Mark allocated pages without a record as early, as init_pages_in_zone() does.

        :return: number of pages marked, for each part of the zones
        """
        with self._scan_lock:
            self._request.again = self._request.owners_only = False
            return [self._scan(zone, *chunk) for zone, chunk in self._chunks()]

    def scan_again(self) -> list[Early]:
        """
        Find changes since the start that no event has shown.

        Allocated pages without a record become early pages; records of free pages become free. Two
        scans must find the same, without an event in between: see scan.bpf.h.

        :return: number of records changed, for each part of the zones
        """
        with self._scan_lock:
            self._request.again = True
            self._request.owners_only = self.options.has_filter
            suspect = []
            found = []
            for zone, chunk in self._chunks():
                self._request.nr_suspects = 0
                found.append(self._scan(zone, *chunk))
                if self._request.nr_suspects:
                    suspect.append((zone, chunk))
            if suspect:
                time.sleep(_SUSPECT_SEC)
            return found + [self._scan(zone, *chunk) for zone, chunk in suspect]

    def _chunks(self) -> Iterator[tuple[Zone, tuple[int, int]]]:
        for zone in self.zones:
            end_pfn = zone.start_pfn + zone.spanned_pages
            for start in range(zone.start_pfn, end_pfn, _SCAN_PFNS):
                yield zone, (start, min(start + _SCAN_PFNS, end_pfn))

    def _scan(self, zone: Zone, start: int, end: int) -> Early:
        request = self._request
        request.nr_marked = request.nr_stale = 0
        request.start, request.end = start, end
        self._object.run("scan_early")
        return Early(zone, request.nr_marked, request.nr_stale)

    # Counters and names

    def counters(self) -> dict[str, int]:
        """
        Return the sums of the counters of all CPUs, by their names in the file ``stats``.

        Events are allocations and frees. A recovered event was missed by the first copy of its
        program and seen by the second. An event that neither has seen is lost; events_lost is an
        upper bound.
        """
        missed = self._missed()
        for _ in range(_COUNTER_READS):
            total = sum_counters(self._states, self._nr_states)
            before, missed = missed, self._missed()
            if missed == before:
                break  # otherwise, what was missed meanwhile would count as lost
        programs = self._trackers
        first = missed[programs.alloc] + missed[programs.free]
        second = missed[programs.alloc_again] + missed[programs.free_again]
        total["events_missed_by_first"] = first
        total["events_missed_by_second"] = second
        total["events_lost"] = min(max(first - total["events_recovered"], 0), second)
        total["hook_events_lost"] = sum(missed[name] for name in self.hooks)
        return dict(total)

    def _missed(self) -> Counter[str]:
        return Counter(
            {name: self._object.recursion_misses(name) for name in self._object.attached}
        )

    def stack_words(self, handle: int) -> list[int]:
        """
        Return the lower halves of the return addresses of a stack, innermost first.

        :raises ValueError: no stack has this handle
        """
        words: list[int] = []
        limit = len(self.stack_nodes) // maps.STACK_NODE_BYTES
        while handle >= maps.NR_RESERVED_HANDLES:
            if handle >= limit or len(words) > 4 * maps.MAX_STACK_DEPTH:
                raise ValueError(f"the stack depot has no handle {handle}")
            (key,) = struct.unpack_from("<Q", self.stack_nodes, handle * maps.STACK_NODE_BYTES)
            words.append(key & 0xFFFFFFFF)
            handle = key >> 32
        if handle == 0 or handle >= maps.NR_PROGRAMS:
            raise ValueError("the stack depot has a stack that does not begin at a program")
        return words[::-1]

    @property
    def text_base(self) -> int:
        """Upper half of the kernel's text addresses, shifted into place."""
        return int(self._config.text_high) << 32

    def cgroup_name(self, number: int) -> bytes | None:
        """Return the name of a cgroup by the number of its kernfs node; None if unknown."""
        name = (ctypes.c_char * maps.CGROUP_NAME_BYTES)()
        if not self._object.lookup("cgroup_names", struct.pack("<Q", number), name):
            return None
        return bytes(name.value)

    def user_tasks(self) -> list[int]:
        """Return the processes whose user stacks are in the stack depot."""
        return [key for (key,) in struct.iter_unpack("<I", self._object.keys("user_tasks", 4))]

    def local_tgid(self, tgid: int) -> int:
        """Return the pid in this PID namespace, and so in /proc, of a user_tasks() process.

        :return: the pid; 0 if the process has none here
        """
        number = ctypes.c_uint32()
        self._object.lookup("user_tasks", struct.pack("<I", tgid), number)
        return number.value


def _advise_small_pages(memory: mmap.mmap) -> None:
    # Each page must fault separately. Kernels without CONFIG_TRANSPARENT_HUGEPAGE, such as all
    # real-time kernels, don't know this advice, and don't need it.
    try:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


def pfns_of(memory: mmap.mmap) -> list[int]:
    """Return the PFNs of this process's pages, 0 for those that are not in memory."""
    view = ctypes.c_char.from_buffer(memory)
    address = ctypes.addressof(view)
    del view
    nr = len(memory) // mmap.PAGESIZE
    with Path("/proc/self/pagemap").open("rb", buffering=0) as file:
        file.seek(address // mmap.PAGESIZE * 8)
        entries = struct.unpack(f"<{nr}Q", file.read(nr * 8))
    return [entry & ((1 << 55) - 1) for entry in entries]
