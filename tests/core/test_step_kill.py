"""A client is killed at any instruction of any operation: see step_kill.c."""

import subprocess
from pathlib import Path

import pytest
from core_sources import NATIVE, core_sources

OPERATIONS = [
    "attach",
    "alloc_0",
    "alloc_0_refill",
    "alloc_0_fallback",
    "alloc_4",
    "free_4",
    "free_0",
    "free_0_drain",
    "split_page",
    "free_9_report",
    "report_free_pages",
    "detach",
    "drain_all_pages",
    "drain_other",
    "depot_intern",
]
# Kills per operation, spread evenly; `step_kill OPERATION 100000` kills at each instruction.
POINTS = 60


@pytest.fixture(scope="session")
def step_kill(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile step_kill.c with the core, without Python."""
    program = tmp_path_factory.mktemp("step_kill") / "step_kill"
    options = ["-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-pthread", f"-I{NATIVE}"]
    source = str(Path(__file__).with_name("step_kill.c"))
    subprocess.run(["cc", *options, "-o", str(program), source, *core_sources()], check=True)
    return program


@pytest.mark.slow
def test_all_operations_are_listed(step_kill: Path) -> None:
    """The table here names every operation of the program."""
    listed = subprocess.run([step_kill], check=True, capture_output=True, text=True).stdout.split()
    assert listed == OPERATIONS


@pytest.mark.slow
@pytest.mark.require("shm")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_killed_at_any_instruction(step_kill: Path, operation: str) -> None:
    """Wherever a client is killed, no page is lost or unowned, and the pool keeps working."""
    done = subprocess.run(
        [step_kill, operation, str(POINTS)], capture_output=True, text=True, check=False
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 problems" in done.stdout
