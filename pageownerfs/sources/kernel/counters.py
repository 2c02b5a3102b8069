"""The counters that the BPF programs keep, by their names in the file ``stats``."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from . import maps

if TYPE_CHECKING:
    import ctypes

# Numbers of the programs whose counters are summed: alloc and free have second copies.
_COUNTED: Final = {
    "alloc": (1, 3),
    "free": (2, 4),
    "bulk": (5,),
    "contig": (6,),
    "migrate": (7,),
    "split": (8,),
}


def _stat_name(program: str, counter: str) -> str:
    if counter.startswith("stack_"):
        return counter
    if counter in ("recovered", "out_of_range"):
        return f"events_{counter}"
    if counter == "untracked":
        return "free_untracked"
    if counter == "filtered":
        return "alloc_filtered"
    return f"{program}_{counter}"


def sum_counters(states: ctypes.Array[maps.CpuState], nr_states: int) -> Counter[str]:
    """
    Sum each counter over the CPUs and the copies of a program.

    :param states: a ``struct cpu_state`` for each program of each CPU
    :param nr_states: how many there are
    """
    total: Counter[str] = Counter()
    for name, numbers in _COUNTED.items():
        for index, counter in enumerate(maps.COUNTERS):
            if counter == "tail_pages" and name not in ("alloc", "free"):
                continue  # other programs don't count them
            total[_stat_name(name, counter)] += sum(
                states[cpu + number].counter[index]
                for cpu in range(0, nr_states, maps.NR_PROGRAMS)
                for number in numbers
            )
    return total
