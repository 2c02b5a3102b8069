"""What the callbacks of bpf_loop() may change: nothing that lies on the stack."""

from __future__ import annotations

import re
from pathlib import Path

NATIVE = Path(__file__).resolve().parents[2] / "pageownerfs" / "native"
_LOOP = re.compile(r"\bbpf_loop\([^;]*?,\s*(\w+),\s*&(\w+),\s*0\);")
_CALLBACK = re.compile(r"^static long (\w+)\(u32 \w+, ([^)]+)\)", re.MULTILINE)


def test_state_of_callbacks_is_not_on_the_stack() -> None:
    """
    A callback's context is const: either read only, or a pointer to a value of a map.

    Up to Linux 6.7 the verifier takes what a callback finds on the stack at its first call for
    constants, and drops the branches that these rule out.
    """
    text = "".join(path.read_text() for path in sorted(NATIVE.glob("bpf/*.bpf.[ch]")))
    callbacks = dict(_CALLBACK.findall(text))
    looped = [name for name, _ in _LOOP.findall(text)]
    assert len(looped) == text.count("\tbpf_loop(") >= 8
    for name in looped:
        context = callbacks[name].rpartition("*")[0]
        assert context.startswith("const ") or context.endswith("*const "), (name, context)
