"""
The kernel source's checks for doctor; none of them fails, because a pool needs none of this.

The last check says whether the kernel source can be mounted here, or what prevents it.
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pageownerfs.errors import PROC_ADVICE, MountError
from pageownerfs.mm.kstrtox import format_size
from pageownerfs.sources.check import OK, WARN, Check, look

from . import checks
from .bpf_object import OBJECT_PATH, check_object

if TYPE_CHECKING:
    from collections.abc import Callable

_ROOT: Final = Path("/")
_SOURCE: Final = "kernel source"
_MACHINE: Final = "machine"
_HOOKS: Final = "BPF hooks"
_NOT_BLOCKING: Final = frozenset((_MACHINE, _HOOKS))


def _kernel_config(root: Path) -> tuple[str, str] | None:
    boot = root / "boot" / f"config-{os.uname().release}"
    packed = root / "proc/config.gz"
    try:
        if boot.exists():
            return str(boot), boot.read_text(errors="replace")
        if packed.exists():
            return str(packed), gzip.decompress(packed.read_bytes()).decode(errors="replace")
    except (OSError, EOFError):
        pass
    return None


def check_kernel_page_owner(root: Path = _ROOT) -> Check:
    """Check whether the running kernel has page_owner itself."""
    name = "kernel page_owner"
    try:
        if (root / "sys/kernel/debug/page_owner").exists():
            return Check(name, OK, "/sys/kernel/debug/page_owner exists")
    except OSError:
        return Check(name, WARN, "cannot read /sys/kernel/debug", "run as root")
    config = _kernel_config(root)
    if config is None:
        return Check(
            name, WARN, "not found, and the kernel's configuration is not readable",
            "not needed by pageownerfs",
        )  # fmt: skip
    return _page_owner_of(name, root, *config)


def _page_owner_of(name: str, root: Path, path: str, text: str) -> Check:
    if "CONFIG_PAGE_OWNER=y" not in text.splitlines():
        advice = "not needed by pageownerfs; to have it, build a kernel with it"
        return Check(name, WARN, f"CONFIG_PAGE_OWNER is not set in {path}", advice)
    try:
        words = (root / "proc/cmdline").read_text(errors="replace").split()
    except OSError as error:
        return Check(name, WARN, f"/proc/cmdline: {error.strerror}", PROC_ADVICE)
    if any(word.startswith("page_owner=") for word in words):
        return Check(name, WARN, "built in and enabled at boot, but not visible in debugfs",
                     "as root, mount -t debugfs debugfs /sys/kernel/debug")  # fmt: skip
    return Check(
        name,
        WARN,
        "built in, but off",
        "not needed by pageownerfs; to have it, boot with page_owner=on",
    )


def check_requirements(root: Path = _ROOT) -> list[Check]:
    """Check everything that is required before anything can be loaded."""
    rows: list[tuple[str, Callable[[], object], str]] = [
        ("BPF rights", lambda: checks.check_rights(root), "this process may load programs"),
        ("libbpf", checks.check_libbpf, "libbpf.so.1 can be loaded"),
        ("BPF programs", check_object, f"{OBJECT_PATH.name} exists"),
        ("BPF", lambda: checks.check_bpf(root), _describe_bpf(root)),
        ("BPF types", lambda: checks.check_types(root), f"{checks.BTF_PATH} exists"),
        ("BPF JIT", lambda: checks.check_jit(root), "the kernel compiles programs"),
        ("BPF lockdown", lambda: checks.check_lockdown(root), _describe_lockdown(root)),
        ("kernel symbols", lambda: checks.check_symbols(root), "addresses can be read"),
    ]
    return [check_machine(), *(look(*row, WARN) for row in rows)]


def check_machine(machine: str | None = None) -> Check:
    """
    Check whether this is the architecture that the kernel source supports.

    :param machine: architecture as uname(2) names it; None for this machine
    """
    machine = machine or os.uname().machine
    if machine == "x86_64":
        return Check(_MACHINE, OK, machine)
    text = f"{machine}: experimental; stacks and types of pageblocks may be missing"
    return Check(_MACHINE, WARN, text, "use the kernel source on x86_64; a pool works without it")


def _describe_bpf(root: Path) -> str:
    try:
        value = (root / checks.UNPRIVILEGED_PATH.lstrip("/")).read_text().strip()
    except OSError:
        value = "?"
    return f"bpf() exists (kernel.unprivileged_bpf_disabled={value}; root may always use it)"


def _describe_lockdown(root: Path) -> str:
    modes = checks.read_lockdown(root)
    if modes is None:
        return "no lockdown, or unknown; loading the programs will show"
    return f"programs may read memory: {modes}"


def check_memory(root: Path = _ROOT) -> Check:
    """Check whether the table of records fits into memory."""
    name = "memory of records"
    try:
        memory = checks.read_memory(root)
    except (OSError, ValueError) as error:
        return Check(name, WARN, f"unknown ({error})", "run as root")
    needed, available = map(format_size, (memory.table_bytes, memory.available_bytes))
    text = f"{needed} for {memory.nr_pages} pages, {available} available"
    if memory.table_bytes < memory.available_bytes:
        return Check(name, OK, text)
    return Check(name, WARN, f"not enough: {text}", "free memory; each page takes 64 bytes")


def check_loading() -> list[Check]:
    """Load and attach the programs for a moment; needs the rights to do so."""
    try:
        rehearsal = checks.rehearse()
    except MountError as error:
        text, _, advice = str(error).rpartition(": ")
        if not text:
            text, advice = advice, "report this line"
        return [Check("BPF loading", WARN, f"refused: {text}", advice)]
    text = f"all required programs accepted; names of gfp flags: {rehearsal.gfp_source}"
    loaded = Check("BPF loading", OK, text)
    hooks = ", ".join(rehearsal.hooks) or "none"
    if not rehearsal.unseen:
        return [loaded, Check(_HOOKS, OK, hooks)]
    unseen = "; ".join(rehearsal.unseen)
    advice = "everything else is seen"
    if not any(program.startswith("hook_") for program in rehearsal.hooks):
        advice += (
            "; hooks (fentry) need a kernel with CONFIG_FUNCTION_TRACER and CONFIG_DYNAMIC_FTRACE"
        )
    return [loaded, Check(_HOOKS, WARN, f"{hooks}; not seen: {unseen}", advice)]


def summarize(found: list[Check]) -> Check:
    """Return the last check: whether the kernel source is ready."""
    blocking = [
        check.name for check in found if check.state != OK and check.name not in _NOT_BLOCKING
    ]
    if blocking:
        text = f"blocked by {', '.join(blocking)}"
        return Check(_SOURCE, WARN, text, "see above; a pool works without it")
    return Check(_SOURCE, OK, "ready: pageownerfs kernel MOUNTPOINT -o page_owner=on")


def run_kernel_checks(root: Path = _ROOT) -> list[Check]:
    """Run all checks of the kernel source, the summary last."""
    found = check_requirements(root)
    states = {check.name: check.state for check in found}
    if states["libbpf"] == states["BPF types"] == OK:
        text = ", ".join(f"kmem:{name}" for name in checks.TRACEPOINTS)
        found += [
            look("kernel version", checks.check_age, f"Linux {os.uname().release}", WARN),
            look("BPF tracepoints", checks.check_tracepoints, text, WARN),
        ]
    if all(check.state == OK or check.name in _NOT_BLOCKING for check in found):
        found += check_loading()
    found.append(check_memory(root))
    return [*found, summarize(found)]


def diagnose() -> list[Check]:
    """Run all checks: of the kernel's own page_owner, then of the kernel source."""
    return [check_kernel_page_owner(), *run_kernel_checks()]
