"""
Check what the kernel source needs from the machine, before anything is loaded.

A check raises MountError with one line: what is missing, a colon, what to do. A mount runs the
checks of check_all(), which take milliseconds; ``pageownerfs doctor`` runs all checks.
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
"""This file exists only in the machine's initial network namespace."""
UNPRIVILEGED_PATH: Final = "/proc/sys/kernel/unprivileged_bpf_disabled"
"""Every kernel with CONFIG_BPF_SYSCALL has this file; its value does not matter."""
TRACEPOINTS: Final = ("mm_page_alloc", "mm_page_free")
"""Tracepoints of the group kmem that the source needs."""

_ROOT: Final = Path("/")
_CAP_SYS_ADMIN: Final = 21
_WHOLE_MACHINE: Final = ["0", "0", "4294967295"]
_KALLSYMS_BYTES: Final = 1 << 16
_HIDDEN: Final = b"0" * 16
# The smallest stack depot.
_REHEARSAL_DEPOT_BYTES: Final = 16 << 10


def _at(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def check_rights(root: Path = _ROOT) -> None:
    """
    Check that this process may load the programs, and read PFNs from /proc/self/pagemap.

    CAP_BPF and CAP_PERFMON suffice to load programs; reading PFNs needs CAP_SYS_ADMIN, which
    includes both. What kernel.unprivileged_bpf_disabled allows never suffices.

    :raises MountError: a capability is missing
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
                "only root may load the BPF programs of the kernel source: run as root (sudo)"
            )
        raise MountError(
            "the kernel source needs CAP_SYS_ADMIN, which root lacks here: grant it to the "
            "container (--privileged, or --cap-add SYS_ADMIN --cap-add SYSLOG)"
        )
    try:
        ids = _at(root, "/proc/self/uid_map").read_text().split()
    except FileNotFoundError:  # no CONFIG_USER_NS
        return
    if ids != _WHOLE_MACHINE:
        raise MountError(
            "root of a user namespace may not load the BPF programs of the kernel source: run as "
            "root of the machine"
        )


def check_bpf(root: Path = _ROOT) -> None:
    """
    Check that the kernel has the system call bpf().

    :raises MountError: the system call is missing
    """
    if not _at(root, UNPRIVILEGED_PATH).exists():
        raise MountError(
            "this kernel lacks bpf(), which the kernel source needs: use a kernel built with "
            "CONFIG_BPF_SYSCALL=y"
        )


def check_types(root: Path = _ROOT) -> None:
    """
    Check that the kernel provides its types (BTF).

    :raises MountError: the types are missing
    """
    if not _at(root, BTF_PATH).exists():
        raise MountError(
            f"{BTF_PATH}, which the kernel source needs, does not exist: use Linux 5.17 or later, "
            "built with CONFIG_DEBUG_INFO_BTF=y"
        )


def check_age() -> None:
    """
    Check that the kernel has bpf_loop(), which Linux 5.17 introduced.

    :raises MountError: the kernel is too old
    """
    with Btf() as btf:
        require_bpf_loop(btf)


def require_bpf_loop(btf: Btf) -> None:
    """
    Check for bpf_loop() in a kernel's types: some distributions backported it.

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
    Check that the kernel compiles BPF programs; interpreted ones can't have callbacks.

    :raises MountError: the JIT compiler is off
    """
    try:
        value = _at(root, JIT_PATH).read_text().strip()
    except OSError:
        return
    if value == "0":
        raise MountError(
            "net.core.bpf_jit_enable is 0, but the BPF programs of the kernel source cannot be "
            f"interpreted: {JIT_ADVICE}"
        )


def check_lockdown(root: Path = _ROOT) -> None:
    """
    Check that BPF programs may read the kernel's memory.

    :raises MountError: the kernel is locked down in confidentiality mode
    """
    if "[confidentiality]" in (read_lockdown(root) or ""):
        raise MountError(
            "kernel lockdown in confidentiality mode keeps BPF programs from reading memory: boot "
            "without lockdown=confidentiality (integrity is allowed)"
        )


def read_lockdown(root: Path = _ROOT) -> str | None:
    """
    Return the lockdown modes; securityfs need not be mounted.

    :return: ``none [integrity] confidentiality``, with the mode in force in brackets; None if it
        is unknown, or the kernel has no lockdown
    """
    try:
        if root == _ROOT:
            return read_securityfs("lockdown").strip()
        return _at(root, LOCKDOWN_PATH).read_text(errors="replace").strip()
    except (OSError, UnicodeDecodeError):
        return None


def check_symbols(root: Path = _ROOT) -> None:
    """
    Check that the addresses of the kernel's functions can be read.

    :raises MountError: the addresses are hidden
    """
    try:
        with _at(root, KALLSYMS_PATH).open("rb") as file:
            text = file.read(_KALLSYMS_BYTES)
    except OSError as error:
        raise MountError(
            f"cannot read {KALLSYMS_PATH} ({error.strerror}): use a kernel built with "
            "CONFIG_KALLSYMS=y"
        ) from error
    # Complete lines only. On some kernels, per-CPU variables begin at 0, so a single address
    # that is not 0 suffices.
    lines = text[: text.rfind(b"\n") + 1].splitlines()
    if all(line.startswith(_HIDDEN) for line in lines):
        raise MountError(
            f"{KALLSYMS_PATH} hides the addresses of kernel functions: run as root with "
            "CAP_SYSLOG, and with sysctl kernel.kptr_restrict=0 or 1"
        )


def check_libbpf() -> None:
    """
    Check that libbpf can be loaded.

    :raises MountError: libbpf is missing or too old
    """
    try:
        library()
    except AttributeError as error:
        raise MountError(f"libbpf.so.1 is too old ({error}): apt install libbpf1") from error


def check_all() -> None:
    """
    Run the checks that a mount runs before it goes to the background.

    :raises MountError: a check failed
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


# Checks that take longer, for doctor


def check_tracepoints() -> None:
    """
    Check that BPF programs can attach to the two tracepoints.

    Raw tracepoints need no tracefs; the kernel's types have a typedef for each of them.

    :raises MountError: a tracepoint is missing, or libbpf or the types are
    """
    with Btf() as btf:
        missing = [f"kmem:{name}" for name in TRACEPOINTS if not btf.has_tracepoint(name)]
    if missing:
        raise MountError(
            f"this kernel lacks the tracepoints {', '.join(missing)}: use a kernel built with "
            "CONFIG_BPF_EVENTS=y"
        )


class Memory(NamedTuple):
    """Memory that the table of records would need."""

    nr_pages: int
    """Number of PFNs up to the highest one."""
    table_bytes: int
    """Size of the table."""
    available_bytes: int
    """MemAvailable of /proc/meminfo."""


def read_memory(root: Path = _ROOT) -> Memory:
    """
    Return the memory that the table would need, and the available memory.

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
    """Result of loading and attaching the programs for a moment."""

    hooks: list[str]
    """Attached programs besides the required ones."""
    unseen: list[str]
    """What the programs would not see."""
    gfp_source: str
    """Where the names of gfp flags come from, see KernelVocabulary."""


def rehearse() -> Rehearsal:
    """
    Load and attach all programs for a moment, as a mount does, with a table of one record.

    :raises MountError: the kernel refused
    """
    with step("reading the kernel's symbols"):
        kallsyms = Kallsyms()
    zones = [Zone(0, "DMA", 0, 1, 1, 1)]
    options = KernelOptions(stack_depot_bytes=_REHEARSAL_DEPOT_BYTES)
    with Btf() as btf:
        gfp_source = KernelVocabulary(btf).gfp_source
        tracker = Tracker(options, zones, btf, kallsyms)
    try:
        return Rehearsal(tracker.hooks, list(tracker.unseen), gfp_source)
    finally:
        tracker.close()
