"""
The peers of the kernel source: other tools that record each page's allocation with its stack.

Each peer is a command that runs the load while it records the whole system. It has its own mount
namespace, so that tracefs need not be mounted. Only the load's own CPU time counts, not the work
of the peer on another CPU.
"""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING, Final

from pageownerfs import PageOwnerError

from .kernel_load import parse_result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .kernel_load import Loads, Result

_TIMEOUT_SEC: Final = 120
_PRIVATE: Final = """
tracing=/sys/kernel/tracing
[ -e $tracing/events ] || mount -t tracefs tracefs $tracing || exit
"""
# A buffer of the default size, which nobody reads.
_FTRACE: Final = (
    _PRIVATE
    + """
instance=$tracing/instances/pageownerfs-bench-$$
leave() {
	trap '' HUP INT TERM
	[ -d $instance ] || return
	for event in mm_page_alloc mm_page_free; do
		echo 0 >$instance/events/kmem/$event/enable
		echo '!stacktrace' >$instance/events/kmem/$event/trigger
	done
	rmdir $instance
}
trap '' PIPE
trap leave EXIT
trap 'exit 1' HUP INT TERM
mkdir $instance || exit
for event in mm_page_alloc mm_page_free; do
	echo stacktrace >$instance/events/kmem/$event/trigger &&
	echo 1 >$instance/events/kmem/$event/enable || exit
done
"$@" || exit
echo 0 >$instance/tracing_on
cat $instance/per_cpu/cpu*/stats
"""
)
_BPFTRACE: Final = (
    "tracepoint:kmem:mm_page_alloc { @[args->pfn] = kstack(16); } "
    "tracepoint:kmem:mm_page_free { delete(@[args->pfn]); } "
    "END { clear(@); }"
)
_BPFTRACE_KEYS: Final = "1000000"
_PERF_BUFFER_PAGES: Final = "8192"


class Peer:
    """One peer."""

    def __init__(self, name: str, loads: Loads) -> None:
        """Prepare the peer for the load of anonymous memory."""
        self.name = name
        self._load = loads.command("anon")
        self._data = loads.directory / "perf.data"
        self.kept = self.lost = 0
        """Events, if the peer reports them."""
        self.nr_bytes = 0
        """Total size of the file it writes."""

    def run(self) -> Result:
        """Run the load while the peer records."""
        command = self._command()
        environment = {
            **os.environ,
            "BPFTRACE_MAP_KEYS_MAX": _BPFTRACE_KEYS,  # up to 0.18
            "BPFTRACE_MAX_MAP_KEYS": _BPFTRACE_KEYS,
        }
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
        )
        try:
            text, _ = process.communicate(timeout=_TIMEOUT_SEC)
        except BaseException:
            # Don't kill it: it has to undo its changes to the kernel.
            process.terminate()
            process.wait(_TIMEOUT_SEC)
            raise
        finally:
            self._drop_data()
        if process.returncode:
            msg = f"exit code {process.returncode}: {' '.join(text.split())[-300:]}"
            raise PageOwnerError(msg)
        self._count(text)
        return parse_result(text)

    def describe(self) -> str:
        """Say what the peer wrote and lost."""
        written = f"{self.nr_bytes / 1e6:.0f} MB written, " if self.nr_bytes else ""
        return f"{self.name}: {written}{self.lost} events lost"

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _count(self, text: str) -> None:
        """Find the peer's report of losses."""

    def _drop_data(self) -> None:
        for path in (self._data, self._data.with_suffix(".data.old")):
            if path.exists():
                self.nr_bytes += path.stat().st_size
                path.unlink()


def _private(script: str, command: Sequence[str]) -> list[str]:
    return ["unshare", "-m", "sh", "-c", script, "bench", *command]


class Perf(Peer):
    """perf writes all events, with kernel stacks, to a file in memory."""

    def _command(self) -> list[str]:
        events = "kmem:mm_page_alloc,kmem:mm_page_free"
        record = ["perf", "record", "-a", "-g", "--kernel-callchains", "-m", _PERF_BUFFER_PAGES]
        output = ["-e", events, "-o", os.fspath(self._data), "--"]
        return _private(_PRIVATE + 'exec "$@"', [*record, *output, *self._load])

    def _count(self, text: str) -> None:
        self.lost += sum(int(nr) for nr in re.findall(r"lost (\d+) ", text))


class Ftrace(Peer):
    """ftrace keeps the latest events, with stacks, in the kernel's ring buffer."""

    def _command(self) -> list[str]:
        return _private(_FTRACE, self._load)

    def _count(self, text: str) -> None:
        self.kept += _sum_of("entries", text)
        self.lost += sum(
            _sum_of(name, text) for name in ("overrun", "commit overrun", "dropped events")
        )


class Bpftrace(Peer):
    """bpftrace keeps the stack of each allocated page in a map: the closest to what we do."""

    def _command(self) -> list[str]:
        return _private(
            _PRIVATE + 'exec "$@"',
            ["bpftrace", "-q", "-e", _BPFTRACE, "-c", " ".join(self._load)],
        )

    def _count(self, text: str) -> None:
        self.lost += sum(int(nr) for nr in re.findall(r"[Ll]ost (\d+) events", text))


def _sum_of(name: str, text: str) -> int:
    return sum(int(nr) for nr in re.findall(rf"^{name}: (\d+)$", text, re.MULTILINE))


def working_peers(loads: Loads) -> tuple[list[Peer], list[str]]:
    """Try each peer; return those that work, and why the others don't."""
    peers: list[Peer] = [
        Perf("perf record -g, both events", loads),
        Ftrace("ftrace, both events, stacktrace triggers", loads),
        Bpftrace("bpftrace, map of pfn -> kstack(16)", loads),
    ]
    working, notes = [], []
    for peer in peers:
        try:
            peer.run()
        except (PageOwnerError, OSError, subprocess.SubprocessError) as error:
            notes.append(f"{peer.name}: could not be measured: {error}")
        else:
            peer.kept = peer.lost = peer.nr_bytes = 0
            working.append(peer)
    return working, notes
