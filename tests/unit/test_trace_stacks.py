"""Stacks of a trace, as page_owner would show them."""

from __future__ import annotations

import pytest

from pageownerfs.sources.trace.stacks import ftrace_stack, perf_stack


@pytest.mark.parametrize(
    ("block", "stack"),
    [
        pytest.param(b" => f+0x1a/0x30\n => g+0x0/0x8 [ext4]\n", 0, id="as it is"),
        pytest.param(
            b" => f+0x1a/0x30 <ffffffff8115f4c1>\n => 0xffffffffc0000001\n",
            b" f+0x1a/0x30\n 0xffffffffc0000001\n",
            id="addresses",
        ),
        pytest.param(b" => f+0x1a/0x30\n => g [ext4]\n", b" f\n g [ext4]\n", id="one form"),
        pytest.param(b"=> f+0x1a (ffffffff8115f4c1)\n=> 00000000deadbeef\n", b" f\n 0xdeadbeef\n"),
        pytest.param(
            b" => [FTRACE TRAMPOLINE]\n => __traceiter_x\n => bpf_trace_run3\n => f\n => bpf_g\n",
            b" f\n bpf_g\n",
            id="only leading frames are the tracer's",
        ),
        pytest.param(b" => perf_trace_x\n", b"", id="nothing else"),
        pytest.param(b" => f\nx\n => g\n", b" f\n", id="ends at what is no frame"),
        pytest.param(b"".join(b" => f%d\n" % i for i in range(99)), 64, id="64 frames"),
    ],
)
def test_ftrace_stacks(block: bytes, stack: bytes | int) -> None:
    """Frames become the lines of page_owner."""
    if stack == 0:
        stack = block.replace(b" =>", b"")
    elif isinstance(stack, int):
        stack = b"".join(b" f%d\n" % i for i in range(stack))
    assert ftrace_stack(block) == stack


@pytest.mark.parametrize(
    ("dso", "module"),
    [
        (b"[kernel.kallsyms]", b""),
        (b"[guest.kernel.kallsyms.12]", b""),
        (b"/boot/vmlinux-6.1", b""),
        (b"[ext4]", b" [ext4]"),
        (b"/lib/modules/6.1/kernel/fs/nls-x.ko.xz", b" [nls_x]"),
        (b"[unknown]", b""),
        (b"[vsyscall]", None),
    ],
)
def test_perf_dsos(dso: bytes, module: bytes | None) -> None:
    """The kernel's frames are recognized by the name of their file or by their address."""
    expected = b"" if module is None else b" f" + module + b"\n"
    assert perf_stack(b"\tffffffffc0000001 f+0x1 (%s)\n" % dso) == expected


@pytest.mark.parametrize("dso", [b"[vdso]", b"[heap]", b"/bin/sh", b"[JIT] tid 7", b"//anon"])
def test_perf_user_dsos(dso: bytes) -> None:
    """A frame of a process ends the stack."""
    user = b"\t    7ffd12345678 f+0x1 (%s)\n" % dso
    kernel = b"\tffffffff81000001 g ([kernel.kallsyms])\n"
    assert perf_stack(user) == b""
    assert perf_stack(kernel + user + kernel) == b" g\n"
