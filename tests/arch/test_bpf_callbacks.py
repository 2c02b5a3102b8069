"""The callbacks of bpf_loop() change no state on the stack."""

from __future__ import annotations

import re
from pathlib import Path

NATIVE = Path(__file__).resolve().parents[2] / "pageownerfs" / "native"
_LOOP = re.compile(r"\bbpf_loop\([^;]*?,\s*(\w+),\s*&(\w+),\s*0\);")
_CALLBACK = re.compile(r"^static long (\w+)\(u32 \w+, ([^)]+)\)", re.MULTILINE)


def test_state_of_callbacks_is_not_on_the_stack() -> None:
    """
    The context of a callback is const: either it is only read, or it points to a map value.

    Up to Linux 6.7 the verifier treats stack values that a callback sees in its first call as
    constants, and drops the branches that these exclude.
    """
    text = "".join(path.read_text() for path in sorted(NATIVE.glob("bpf/*.bpf.[ch]")))
    callbacks = dict(_CALLBACK.findall(text))
    looped = [name for name, _ in _LOOP.findall(text)]
    assert len(looped) == text.count("\tbpf_loop(") >= 8
    for name in looped:
        context = callbacks[name].rpartition("*")[0]
        assert context.startswith("const ") or context.endswith("*const "), (name, context)
