"""What doctor and a mount say about the kernel source on all kinds of machines."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pageownerfs.daemon import checks as mount_checks
from pageownerfs.errors import MountError
from pageownerfs.sources import SOURCES
from pageownerfs.sources.check import OK, WARN, Check
from pageownerfs.sources.kernel import bpf_object, checks, doctor, libbpf
from pageownerfs.sources.kernel.btf import Btf
from pageownerfs.sources.kernel.refusal import step

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import OrdinaryUser

    Command = Callable[..., Any]

ALL_CAPABILITIES = 0x1FFFFFFFFFF
SYS_ADMIN = 1 << 21
PERFMON, BPF = 1 << 38, 1 << 39
ZONEINFO = """\
Node 0, zone      DMA
  pages free     1
        spanned  4095
        present  3998
        managed  3840
  start_pfn:           1
Node 0, zone   Normal
  pages free     1
        spanned  12288
        present  12288
        managed  12000
  start_pfn:           4096
"""


def write(root: Path, path: str, text: str) -> None:
    """Write a file below the fake root."""
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


def write_status(root: Path, uid: int, capabilities: int) -> None:
    """Write the identity of the process."""
    write(
        root,
        "proc/self/status",
        f"Name:\tpython: x\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nCapEff:\t{capabilities:016x}\n",
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Write the files of a machine that meets all requirements."""
    write_status(tmp_path, 0, ALL_CAPABILITIES)
    write(tmp_path, "proc/self/uid_map", "         0          0 4294967295\n")
    write(tmp_path, "proc/sys/kernel/unprivileged_bpf_disabled", "2\n")
    write(tmp_path, "proc/kallsyms", "ffffffff81000000 T _stext\n")
    write(tmp_path, "proc/zoneinfo", ZONEINFO)
    write(tmp_path, "proc/meminfo", "MemTotal: 9 kB\nMemAvailable:    65536 kB\n")
    write(tmp_path, "sys/kernel/btf/vmlinux", "")
    write(tmp_path, "proc/sys/net/core/bpf_jit_enable", "1\n")
    write(tmp_path, "sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
    return tmp_path


def named(found: list[Check], name: str) -> Check:
    """Return the check with a name."""
    (check,) = [check for check in found if check.name == name]
    return check


@pytest.fixture
def _all_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that libbpf and the programs exist and that the kernel accepts them."""
    monkeypatch.setattr(checks, "check_age", lambda: None)
    monkeypatch.setattr(checks, "library", object)
    monkeypatch.setattr(doctor, "check_object", lambda: None)
    monkeypatch.setattr(checks, "check_tracepoints", lambda: None)
    found = checks.Rehearsal(["hook_bulk"], [], "tracefs")
    monkeypatch.setattr(checks, "rehearse", lambda: found)


@pytest.mark.usefixtures("_all_built")
class TestRequirements:
    """The single checks, on fake machines."""

    def test_ready(self, root: Path) -> None:
        """If nothing is missing, the last line says that the source is ready."""
        found = doctor.run_kernel_checks(root)
        assert {check.state for check in found} == {OK}
        assert found[-1].name == "kernel source"
        assert found[-1].text.startswith("ready: pageownerfs kernel MOUNTPOINT")
        assert named(found, "memory of records").text == "1M for 16384 pages, 64M available"

    @pytest.mark.parametrize(
        ("path", "text", "name", "wanted"),
        [
            (
                "proc/sys/kernel/unprivileged_bpf_disabled",
                None,
                "BPF",
                "lacks bpf()|BPF_SYSCALL=y",
            ),
            ("sys/kernel/btf/vmlinux", None, "BPF types", "does not exist|INFO_BTF=y"),
            (
                "sys/kernel/security/lockdown",
                "none integrity [confidentiality]\n",
                "BPF lockdown",
                "confidentiality mode|integrity is allowed",
            ),
            (
                "proc/sys/net/core/bpf_jit_enable",
                "0\n",
                "BPF JIT",
                "net.core.bpf_jit_enable is 0|sysctl net.core.bpf_jit_enable=1",
            ),
            (
                "proc/kallsyms",
                None,
                "kernel symbols",
                "cannot read /proc/kallsyms (No such|KALLSYMS=y",
            ),
            (
                "proc/kallsyms",
                "0000000000000000 T a\n0000000000000000 T b\n00",
                "kernel symbols",
                "hides the addresses|kptr_restrict",
            ),
            ("proc/self/uid_map", "0 1000 1\n", "BPF rights", "user namespace|of the machine"),
            ("proc/meminfo", "MemAvailable: 9 kB\n", "memory of records", "not enough|64 bytes"),
            ("proc/zoneinfo", None, "memory of records", "unknown (|run as root"),
        ],
    )
    def test_what_blocks(
        self, root: Path, path: str, text: str | None, name: str, wanted: str
    ) -> None:
        """A missing requirement is named with advice, and the last line says that it blocks."""
        if text is None:
            (root / path).unlink()
        else:
            write(root, path, text)
        found = doctor.run_kernel_checks(root)
        check = named(found, name)
        said, advice = wanted.split("|")
        assert check.state == WARN
        assert said in check.text
        assert advice in check.advice
        assert found[-1].state == WARN
        assert found[-1].text == f"blocked by {name}"
        assert all(check.advice for check in found if check.state != OK)

    @pytest.mark.parametrize(
        ("uid", "capabilities", "message"),
        [
            (1000, 0, "only root may load"),
            (0, 0, "which root lacks here: grant it to the container"),
            (0, BPF | PERFMON, "which root lacks here: grant it to the container"),
            (1000, BPF | PERFMON, "only root may load"),
        ],
    )
    def test_rights(self, root: Path, uid: int, capabilities: int, message: str) -> None:
        """The right to load programs is not enough: only CAP_SYS_ADMIN may see PFNs."""
        write_status(root, uid, capabilities)
        with pytest.raises(MountError, match=message):
            checks.check_rights(root)

    def test_rights_by_capability(self, root: Path) -> None:
        """CAP_SYS_ADMIN is enough without root, even if the kernel lacks user namespaces."""
        write_status(root, 1000, SYS_ADMIN)
        checks.check_rights(root)
        (root / "proc/self/uid_map").unlink()
        checks.check_rights(root)

    def test_no_lockdown(self, root: Path) -> None:
        """A kernel without lockdown passes, and so does one without the JIT's switch."""
        (root / "sys/kernel/security/lockdown").unlink()
        (root / "proc/sys/net/core/bpf_jit_enable").unlink()
        found = doctor.check_requirements(root)
        assert named(found, "BPF lockdown").state == OK
        assert "no lockdown" in named(found, "BPF lockdown").text
        assert named(found, "BPF JIT").state == OK

    def test_symbols_at_zero(self, root: Path) -> None:
        """Some kernels have their first symbols at or near 0; kptr_restrict hides all or none."""
        zeros = "0000000000000000 A fixed_percpu_data\n" * 3
        write(root, "proc/kallsyms", zeros + "0000000000001000 A cpu_debug_store\n")
        checks.check_symbols(root)

    def test_machine(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """On an experimental machine doctor warns, but still tries the programs."""
        check = doctor.check_machine("aarch64")
        assert check.state == WARN
        assert "experimental" in check.text
        monkeypatch.setattr(doctor, "check_machine", lambda: check)
        found = doctor.run_kernel_checks(root)
        assert check in found
        assert found[-1].state == OK

    def test_nothing_is_loaded_without_need(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """If something blocks, doctor does not load the programs."""
        write_status(root, 1000, 0)
        monkeypatch.setattr(checks, "rehearse", lambda: pytest.fail("loads"))
        found = doctor.run_kernel_checks(root)
        assert not {"BPF loading", "BPF hooks"} & {check.name for check in found}

    def test_missing_hooks_do_not_block(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A kernel without fentry gets a remark and is ready."""
        found = checks.Rehearsal([], ["bulk allocations", "splits"], "built in")
        monkeypatch.setattr(checks, "rehearse", lambda: found)
        rows = doctor.run_kernel_checks(root)
        check = named(rows, "BPF hooks")
        assert check.state == WARN
        assert check.text == "none; not seen: bulk allocations; splits"
        assert "CONFIG_FUNCTION_TRACER" in check.advice
        assert rows[-1].state == OK
        # A program missing for another reason is not blamed on this one.
        found = checks.Rehearsal(["hook_bulk"], ["types of pageblocks"], "built in")
        check = named(doctor.run_kernel_checks(root), "BPF hooks")
        assert check.text == "hook_bulk; not seen: types of pageblocks"
        assert check.advice == "everything else is seen"

    @pytest.mark.parametrize(
        ("number", "advice"),
        [
            (errno.EPERM, "seccomp=unconfined"),
            (errno.EINVAL, "use a newer pageownerfs, or report this line (Linux "),
            (524, "sysctl net.core.bpf_jit_enable=1"),
        ],
    )
    def test_refused(
        self, root: Path, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
    ) -> None:
        """A kernel that refuses a step blocks, and the step and the reason are quoted."""

        def refuse() -> None:
            with step("loading its BPF programs"):
                raise OSError(number, f"page_owner.bpf.o: {os.strerror(number)}")

        monkeypatch.setattr(checks, "rehearse", refuse)
        rows = doctor.run_kernel_checks(root)
        check = named(rows, "BPF loading")
        assert check.state == WARN
        assert check.text == (
            "refused: the kernel source failed while loading its BPF programs "
            f"(page_owner.bpf.o: {os.strerror(number)})"
        )
        assert advice in check.advice
        assert "newer kernel" not in check.advice
        assert rows[-1].text == "blocked by BPF loading"

    @pytest.mark.parametrize(
        "helpers", [{}, {"BPF_FUNC_unspec": 0, "BPF_FUNC_snprintf": 165, "__BPF_FUNC_MAX_ID": 166}]
    )
    def test_too_old(self, helpers: dict[str, int]) -> None:
        """A kernel without bpf_loop() is reported as too old, not with the verifier's message."""

        class Types(Btf):
            def __init__(self) -> None:
                pass

            def enum(self, name: str) -> dict[str, int]:
                if not helpers:
                    raise KeyError(name)
                return helpers

        with pytest.raises(MountError) as raised:
            checks.require_bpf_loop(Types())
        major, minor = os.uname().release.split(".")[:2]
        text, _, advice = str(raised.value).partition(": ")
        assert text == f"Linux {major}.{minor} is too old; 5.17 or later is needed"
        assert advice

    def test_refused_by_us(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A refusal by the source itself is quoted, too."""

        def refuse() -> None:
            raise MountError("no enum pageflags")

        monkeypatch.setattr(checks, "rehearse", refuse)
        (check,) = doctor.check_loading()
        assert check.text == "refused: no enum pageflags"
        assert check.advice


class TestWhatWasNotInstalled:
    """doctor and a mount report a build without clang and a machine without libbpf."""

    @pytest.fixture(autouse=True)
    def _may(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(checks, "check_rights", lambda *_: None)

    def test_no_programs(
        self, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The missing programs are named, with the way to build them."""
        monkeypatch.setattr(bpf_object, "OBJECT_PATH", tmp_path / "page_owner.bpf.o")
        monkeypatch.setattr(checks, "library", object)
        with pytest.raises(MountError, match=r"without clang; apt install clang libbpf-dev"):
            mount_checks.check_all(str(tmp_path), SOURCES["kernel"])
        check = named(doctor.check_requirements(root), "BPF programs")
        assert check.text == "page_owner.bpf.o does not exist"
        assert "apt install clang libbpf-dev, and install it again" in check.advice

    def test_no_libbpf(self, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The missing library is named with its package, and checks that need it are skipped."""
        monkeypatch.setattr(libbpf, "_LIBRARY", "libbpf-none.so.1")
        monkeypatch.setattr(checks, "library", libbpf.library.__wrapped__)
        with pytest.raises(MountError, match=r"cannot load .*apt install libbpf1"):
            mount_checks.check_all(str(tmp_path), SOURCES["kernel"])
        found = doctor.run_kernel_checks(root)
        assert named(found, "libbpf").advice == "apt install libbpf1"
        assert "BPF tracepoints" not in {check.name for check in found}
        assert "libbpf" in found[-1].text

    def test_old_libbpf(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A libbpf that lacks a function counts as missing."""

        def library() -> None:
            raise AttributeError("undefined symbol: bpf_x")

        monkeypatch.setattr(checks, "library", library)
        with pytest.raises(MountError, match=r"too old .*bpf_x"):
            checks.check_libbpf()


@pytest.mark.require("bpf")
class TestThisMachine:
    """The kernel of this machine."""

    def test_ready(self) -> None:
        """``doctor`` says ready if the kernel source can be mounted."""
        found = doctor.run_kernel_checks()
        assert found[-1].text.startswith("ready: ")
        assert named(found, "BPF loading").state == OK
        assert named(found, "BPF tracepoints").state == OK

    def test_a_tracepoint_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The kernel's BTF says which tracepoints exist."""
        monkeypatch.setattr(checks, "TRACEPOINTS", ("mm_page_alloc", "mm_page_x"))
        with pytest.raises(
            MountError, match=r"lacks the tracepoints kmem:mm_page_x: .*BPF_EVENTS"
        ):
            checks.check_tracepoints()

    def test_it_is_not_too_old(self) -> None:
        """A kernel that loads the programs is not called too old."""
        checks.check_age()

    def test_lockdown_without_securityfs(self, require: Callable[[str], None]) -> None:
        """Lockdown is read even if securityfs is not mounted."""
        require("unshare")
        mounted = checks.read_lockdown()
        if mounted is None:
            pytest.skip("needs a kernel with lockdown")
        code = "from pageownerfs.sources.kernel.checks import read_lockdown as r; print(r())"
        line = f"umount -l /sys/kernel/security; exec {sys.executable} -c '{code}'"
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", line], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == mounted

    def test_step_that_fails(self, tmp_path: Path) -> None:
        """Whatever the kernel refuses, the user gets a sentence that names the step."""
        code = (
            "import resource, sys; from pageownerfs.cli import main; "
            "resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16)); "
            f"sys.exit(main(['kernel', {str(tmp_path)!r}, '-o', 'page_owner=on']))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert done.returncode == 3
        assert "the kernel source failed while loading its BPF programs (" in done.stderr
        assert "Too many open files" in done.stderr
        assert "Error" not in done.stderr
        assert not os.path.ismount(tmp_path)

    def test_rehearsal_leaves_nothing(self) -> None:
        """The programs and their descriptors are gone afterwards."""
        before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only names are needed
        assert checks.rehearse().gfp_source in {"tracefs", "built in"}
        assert sorted(os.listdir("/proc/self/fd")) == before  # noqa: PTH208

    def test_ordinary_user(self, ordinary_user: OrdinaryUser, pageownerfs: Command) -> None:
        """A user who may not load programs gets a one-line error before anything starts."""
        line = ["kernel", ordinary_user.directory, "-o", "page_owner=on"]
        done = pageownerfs(*line, command=ordinary_user.pageownerfs)
        assert done.returncode == 3
        assert done.stdout == ""
        (text,) = done.stderr.splitlines()
        assert text == (
            "pageownerfs: only root may load the BPF programs of the kernel source: "
            "run as root (sudo)"
        )
