"""
What the kernel source needs of the machine, asked before anything is loaded.

Each check raises MountError with one line: what is missing, a colon, what to do. A mount makes
those of check_all(), which take milliseconds; ``pageownerfs doctor`` makes all of them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

from pageownerfs.errors import PROC_ADVICE, MountError
from pageownerfs.mm.page_ext import PAGE_OWNER_STRUCT
from pageownerfs.mm.zone import Zone

from .bpf_object import check_object
from .btf import Btf
from .features import TRACKERS
from .kallsyms import KALLSYMS_PATH, Kallsyms
from .libbpf import library
from .options import KernelOptions
from .pseudo_fs import read_securityfs
from .refusal import JIT_ADVICE, step
from .tracker import Tracker
from .vocabulary import KernelVocabulary
from .zoneinfo import ZONEINFO_PATH, read_zoneinfo

BTF_PATH: Final = "/sys/kernel/btf/vmlinux"
LOCKDOWN_PATH: Final = "/sys/kernel/security/lockdown"
JIT_PATH: Final = "/proc/sys/net/core/bpf_jit_enable"
"""Only in the machine's own network namespace."""
UNPRIVILEGED_PATH: Final = "/proc/sys/kernel/unprivileged_bpf_disabled"
"""Every kernel with CONFIG_BPF_SYSCALL has it; what it says is of no matter."""
TRACEPOINTS: Final = ("mm_page_alloc", "mm_page_free")
"""Of the group kmem."""

_ROOT: Final = Path("/")
_CAP_SYS_ADMIN: Final = 21
_WHOLE_MACHINE: Final = ["0", "0", "4294967295"]
_KALLSYMS_BYTES: Final = 1 << 16
_HIDDEN: Final = b"0" * 16
# Of the smallest stack depot that there is.
_REHEARSAL_DEPOT_BYTES: Final = 16 << 10


def _at(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def check_rights(root: Path = _ROOT) -> None:
    """
    See whether this process may load the programs, and learn PFNs from /proc/self/pagemap.

    CAP_BPF and CAP_PERFMON do for the former; the latter takes CAP_SYS_ADMIN, which has both in
    it. What kernel.unprivileged_bpf_disabled allows is never enough.

    :raises MountError: it may not
    """
    fields = {}
    try:
        text = _at(root, "/proc/self/status").read_text(errors="replace")
    except OSError as error:
        raise MountError(f"/proc/self/status: {error.strerror}: {PROC_ADVICE}") from error
    for line in text.splitlines():
        name, _, value = line.partition(":")
        fields[name] = value.split()
    if not int(fields["CapEff"][0], 16) >> _CAP_SYS_ADMIN & 1:
        if fields["Uid"][1] != "0":
            raise MountError(
                "the kernel source loads BPF programs, which only root may: run it as root (sudo)"
            )
        raise MountError(
            "the kernel source needs CAP_SYS_ADMIN, which root lacks here: give it to the "
            "container (--privileged, or --cap-add SYS_ADMIN --cap-add SYSLOG)"
        )
    try:
        ids = _at(root, "/proc/self/uid_map").read_text().split()
    except FileNotFoundError:  # no CONFIG_USER_NS
        return
    if ids != _WHOLE_MACHINE:
        raise MountError(
            "root of a user namespace may not load the kernel source's BPF programs: run it as "
            "root of the machine"
        )


def check_bpf(root: Path = _ROOT) -> None:
    """
    See whether the kernel has the system call bpf().

    :raises MountError: it has not
    """
    if not _at(root, UNPRIVILEGED_PATH).exists():
        raise MountError(
            "this kernel has no bpf(), which the kernel source needs: take a kernel built with "
            "CONFIG_BPF_SYSCALL=y"
        )


def check_types(root: Path = _ROOT) -> None:
    """
    See whether the kernel tells its types.

    :raises MountError: it does not
    """
    if not _at(root, BTF_PATH).exists():
        raise MountError(
            f"{BTF_PATH} is not there, which the kernel source needs: take Linux 5.17 or later, "
            "built with CONFIG_DEBUG_INFO_BTF=y"
        )


def check_age() -> None:
    """
    See whether the kernel has bpf_loop(), which came with Linux 5.17.

    :raises MountError: the kernel is too old
    """
    with Btf() as btf:
        require_bpf_loop(btf)


def require_bpf_loop(btf: Btf) -> None:
    """
    Look for bpf_loop() in a kernel's types: some distributions' older kernels have it as well.

    :raises MountError: the kernel is too old
    """
    try:
        helpers = btf.enum("bpf_func_id")
    except KeyError:
        helpers = {}
    if "BPF_FUNC_loop" not in helpers:
        release = ".".join(os.uname().release.split(".")[:2])
        raise MountError(
            f"Linux {release} is too old; 5.17 or later is needed: boot a newer kernel"
        )


def check_jit(root: Path = _ROOT) -> None:
    """
    See whether BPF programs are compiled; an interpreted one has no callbacks.

    :raises MountError: they are not
    """
    try:
        value = _at(root, JIT_PATH).read_text().strip()
    except OSError:
        return
    if value == "0":
        raise MountError(
            "net.core.bpf_jit_enable is 0, and the kernel source's BPF programs can't be "
            f"interpreted: {JIT_ADVICE}"
        )


def check_lockdown(root: Path = _ROOT) -> None:
    """
    See whether programs may read the kernel's memory.

    :raises MountError: the kernel is locked down to confidentiality
    """
    if "[confidentiality]" in (read_lockdown(root) or ""):
        raise MountError(
            "the kernel is locked down to confidentiality, so that BPF programs can't read its "
            "memory: boot without lockdown=confidentiality (integrity will do)"
        )


def read_lockdown(root: Path = _ROOT) -> str | None:
    """
    Tell how far the kernel is locked down; securityfs need not be mounted.

    :return: ``none [integrity] confidentiality``, the one in force in brackets; None: not known,
        or the kernel has no lockdown
    """
    try:
        if root == _ROOT:
            return read_securityfs("lockdown").strip()
        return _at(root, LOCKDOWN_PATH).read_text(errors="replace").strip()
    except (OSError, UnicodeDecodeError):
        return None


def check_symbols(root: Path = _ROOT) -> None:
    """
    See whether the addresses of the kernel's functions can be read.

    :raises MountError: they are hidden
    """
    try:
        with _at(root, KALLSYMS_PATH).open("rb") as file:
            text = file.read(_KALLSYMS_BYTES)
    except OSError as error:
        raise MountError(
            f"{KALLSYMS_PATH} can't be read ({error.strerror}): take a kernel built with "
            "CONFIG_KALLSYMS=y"
        ) from error
    # Whole lines only. Variables of a CPU begin at 0, on some kernels: one that does not will do.
    lines = text[: text.rfind(b"\n") + 1].splitlines()
    if all(line.startswith(_HIDDEN) for line in lines):
        raise MountError(
            f"{KALLSYMS_PATH} hides the addresses of the kernel's functions: run as root with "
            "CAP_SYSLOG, and with sysctl kernel.kptr_restrict=0 or 1"
        )


def check_libbpf() -> None:
    """
    Load libbpf.

    :raises MountError: it is not there, or not whole
    """
    try:
        library()
    except AttributeError as error:
        raise MountError(f"libbpf.so.1 is too old ({error}): apt install libbpf1") from error


def check_all() -> None:
    """
    Make the checks that a mount makes before it goes to the background.

    :raises MountError: the first that fails
    """
    check_rights()
    check_libbpf()
    check_object()
    check_bpf()
    check_types()
    check_age()
    check_jit()
    check_lockdown()
    check_symbols()


# What takes longer, for doctor


def check_tracepoints() -> None:
    """
    See whether BPF programs can be attached to the two tracepoints.

    Raw tracepoints need no tracefs. The kernel's types have a typedef for each that there is.

    :raises MountError: there is none, or no libbpf and no types to ask
    """
    with Btf() as btf:
        missing = [f"kmem:{name}" for name in TRACEPOINTS if not btf.has_tracepoint(name)]
    if missing:
        raise MountError(
            f"this kernel has no tracepoint {', '.join(missing)}: take a kernel built with "
            "CONFIG_BPF_EVENTS=y"
        )


class Memory(NamedTuple):
    """What the table of records would take."""

    nr_pages: int
    """PFNs up to the highest."""
    table_bytes: int
    """Of the table."""
    available_bytes: int
    """MemAvailable."""


def read_memory(root: Path = _ROOT) -> Memory:
    """
    Tell what the table would take, and what there is.

    :raises OSError: /proc can't be read
    """
    zones = read_zoneinfo(_at(root, ZONEINFO_PATH).read_text(encoding="ascii"))
    nr_pages = max((zone.end_pfn for zone in zones), default=0)
    available = 0
    for line in _at(root, "/proc/meminfo").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            available = int(value.split()[0]) << 10
    return Memory(nr_pages, nr_pages * PAGE_OWNER_STRUCT.size, available)


class Rehearsal(NamedTuple):
    """What a mount would do."""

    hooks: list[str]
    """Programs that would be attached beside those that must be."""
    unseen: list[str]
    """What would not be seen."""
    gfp_source: str
    """Where the names of gfp flags would come from: see KernelVocabulary."""


def rehearse() -> Rehearsal:
    """
    Do for a second what a mount does: load and attach all, with a table of one record.

    :raises MountError: it can't be done
    """
    with step("reading the kernel's symbols"):
        kallsyms = Kallsyms()
    zones = [Zone(0, "DMA", 0, 1, 1, 1)]
    options = KernelOptions(stack_depot_bytes=_REHEARSAL_DEPOT_BYTES)
    with Btf() as btf:
        gfp_source = KernelVocabulary(btf).gfp_source
        tracker = Tracker(options, zones, btf, kallsyms)
    try:
        hooks = [program for program in tracker.programs if program not in TRACKERS]
        return Rehearsal(hooks, list(tracker.unseen), gfp_source)
    finally:
        tracker.close()
