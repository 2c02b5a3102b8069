"""Convert call stacks that tracers print into lines as in page_owner."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_FRAMES: Final = 64
"""Frames to keep of a stack; the kernel's own limit is 16 (PAGE_OWNER_STACK_DEPTH)."""

_CACHE_BYTES: Final = 64 << 20
"""Limit of the cached text of blocks: blocks with user frames may never repeat."""

# ftrace: " => name+0x1a/0x30 [module] <ffffffff8115f4c1>"; unknown parts are missing.
# trace-cmd: "=> name+0x1a (ffffffff8115f4c1)".
_FTRACE_FRAME: Final = re.compile(
    rb"[ \t]*=> +(?P<name>\[FTRACE TRAMPOLINE\]|[^\s+<(]+)"
    rb"(?:\+0x(?P<offset>[0-9a-f]+)(?:/0x(?P<size>[0-9a-f]+))?)?"
    rb"(?: \[(?P<module>[^\s\]]+)\])?(?: [<(][0-9a-f]+[>)])?\s*"
)
# perf: "\tffffffff8115f4c1 name+0x1a ([kernel.kallsyms])"; a C++ name may contain blanks.
_PERF_FRAME: Final = re.compile(
    rb"[ \t]+(?P<address>[0-9a-f]{1,16}) (?P<name>[^\n]*?)(?:\+0x[0-9a-f]+)?"
    rb"(?: \((?P<dso>[^()\n]*|[^\n]*?)\))?\s*"
)
_ADDRESS: Final = re.compile(rb"0x[0-9a-f]{1,16}|[0-9a-f]{16}")
_KERNEL_HALF: Final = 1 << 63
# Names of a process's mappings that look like kernel modules.
_USER_DSOS: Final = re.compile(rb"\[(?:heap|stack.*|vdso|vsyscall|vvar|uprobes|anon.*|unknown)\]")
_MODULE_PATH: Final = re.compile(rb"/([^/]+)\.ko(?:\.\w+|\.debug)*")

# Innermost frames of the tracer itself, which page_owner does not show.
_TRACER: Final = re.compile(
    rb"trace_event_raw_event_|trace_event_buffer_commit|trace_buffer_unlock_commit"
    rb"|event_triggers_post_call|stacktrace_(?:count_)?trigger|_*ftrace_"
    rb"|\[FTRACE TRAMPOLINE\]|__traceiter_|perf_trace_|perf_tp_event|__bpf_trace_|bpf_"
)


class _Frame(NamedTuple):
    name: bytes
    """Empty if unknown."""
    place: bytes
    """``+0xOFFSET/0xSIZE``, or empty."""
    module: bytes
    """`` [module]``, or empty."""
    address: bytes
    """Hex digits, if there is no name."""


def ftrace_stack(block: bytes) -> bytes:
    r"""
    Convert the lines that ftrace or trace-cmd print after ``<stack trace>``.

    >>> ftrace_stack(b" => trace_event_raw_event_mm_page_alloc\n => alloc_pages_noprof\n")
    b' alloc_pages_noprof\n'

    :param block: lines; anything after the last frame is ignored
    :return: lines as in page_owner, innermost frame first; empty if there is no frame
    """
    return _format(_ftrace_frames(block))


def perf_stack(block: bytes) -> bytes:
    r"""
    Convert the lines that ``perf script`` prints after an event; only kernel frames are kept.

    >>> perf_stack(b"\tffffffff8115f4c1 new_slab+0x7a ([kernel.kallsyms])\n\t7f0 main+0x1 (/a)\n")
    b' new_slab\n'

    :param block: as in ftrace_stack()
    :return: as in ftrace_stack(), but without offsets, because perf does not print sizes
    """
    return _format(_perf_frames(block))


def _ftrace_frames(block: bytes) -> Iterator[_Frame]:
    for line in block.split(b"\n"):
        match = _FTRACE_FRAME.fullmatch(line)
        if not match:
            return
        name, offset, size, module = match.group("name", "offset", "size", "module")
        place = b"+0x%s/0x%s" % (offset, size) if size else b""
        yield _frame(name, place, module or b"")


def _perf_frames(block: bytes) -> Iterator[_Frame]:
    for line in block.split(b"\n"):
        match = _PERF_FRAME.fullmatch(line)
        if not match:
            return
        address, name, dso = match.group("address", "name", "dso")
        module = _kernel_module(dso or b"", int(address, 16))
        if module is None:
            return  # user frames follow the kernel's
        known = name != b"[unknown]" and not re.search(rb"\s", name)
        yield _frame(name if known else b"0x" + address, b"", module)


def _kernel_module(dso: bytes, address: int) -> bytes | None:
    """Return the module of a perf frame; empty for vmlinux, None for a user frame."""
    if dso.startswith((b"[kernel", b"[guest.kernel")):
        return b""
    if _USER_DSOS.fullmatch(dso):
        # An address unknown to perf may be the kernel's. vsyscall is mapped in the kernel's half.
        return b"" if dso == b"[unknown]" and address >= _KERNEL_HALF else None
    if dso.startswith(b"[") and dso.endswith(b"]"):
        return dso[1:-1] if not re.search(rb"\s", dso) else None
    if address < _KERNEL_HALF:
        return None
    path = _MODULE_PATH.search(dso)
    return path[1].replace(b"-", b"_") if path else b""


def _frame(name: bytes, place: bytes, module: bytes) -> _Frame:
    if _ADDRESS.fullmatch(name):
        return _Frame(b"", b"", b"", b"%x" % int(name, 16))
    return _Frame(name, place, b" [%s]" % module if module else b"", b"")


def _format(frames: Iterator[_Frame]) -> bytes:
    kept: list[_Frame] = []
    for frame in frames:
        if kept or not _TRACER.match(frame.name):
            kept.append(frame)
        if len(kept) == MAX_FRAMES:
            break
    # Use one form per stack: tools may misread a name without an offset among others.
    with_place = all(frame.place for frame in kept if frame.name)
    return b"".join(
        b" %s%s%s\n" % (frame.name, frame.place if with_place else b"", frame.module)
        if frame.name
        else b" 0x%s\n" % frame.address
        for frame in kept
    )


class Stacks:
    """The distinct stacks of a trace; each is converted and stored once."""

    def __init__(self, convert: Callable[[bytes], bytes]) -> None:
        """Store the function that converts a block of the trace's form."""
        self._convert = convert
        self._by_block: dict[bytes, bytes] = {}
        self._nr_bytes = 0
        self._stacks: dict[bytes, bytes] = {b"": b""}

    def __len__(self) -> int:
        return len(self._stacks) - 1

    def get(self, block: bytes) -> bytes:
        """Return the converted stack of a block of lines."""
        stack = self._by_block.get(block)
        if stack is None:
            stack = self._convert(block)
            stack = self._stacks.setdefault(stack, stack)
            self._nr_bytes += len(block)
            if self._nr_bytes > _CACHE_BYTES:
                self._by_block.clear()
                self._nr_bytes = len(block)
            self._by_block[block] = stack
        return stack
