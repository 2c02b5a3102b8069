"""The command page_owner_sort as a whole: input, output, messages and exit codes."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import pty
import signal
import stat
import subprocess
import sys
import termios
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from data import SAMPLE

from pageownerfs.page_owner_sort.options import HELP, USAGE

if TYPE_CHECKING:
    from collections.abc import Callable

SORT = (sys.executable, "-m", "pageownerfs.page_owner_sort")
OLD = b"what was there before\n"
TIMEOUT = 30.0

RECORD = b"""\
Page allocated via order 1, mask 0xcc0(GFP_KERNEL), pid 7, tgid 6 (some one), ts 5 ns
PFN 0x10 type Unmovable Block 0 type CMA Flags 0x0(zone=1)
 alloc_pages+0x1/0x2
 load_module+0x3/0x4 [ext4]

"""
GROUPED = b"""\
1 times, 2 pages, allocated by CMA :
Page allocated via order 1, mask 0xcc0(GFP_KERNEL), pid 7, tgid 6 (some one), ts  ns
 alloc_pages+0x1/0x2
 load_module+0x3/0x4 [ext4]

"""


def run(*args: str | Path, **kwargs: Any) -> subprocess.CompletedProcess[bytes]:
    """Run ``page_owner_sort ARGS`` to its end."""
    kwargs = {"stdin": subprocess.DEVNULL, "capture_output": True, "timeout": TIMEOUT} | kwargs
    done = subprocess.run([*SORT, *map(str, args)], check=False, **kwargs)
    assert b"Traceback" not in (done.stderr or b""), done.stderr
    return done


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    """Write a file with one record."""
    path = tmp_path / "dump"
    path.write_bytes(RECORD)
    return path


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Make an output file that already has contents, alone in its directory."""
    path = tmp_path / "out" / "sorted"
    path.parent.mkdir()
    path.write_bytes(OLD)
    return path


def assert_old(output: Path) -> None:
    """Assert that the output is unchanged and nothing else was left next to it."""
    assert output.read_bytes() == OLD
    assert list(output.parent.iterdir()) == [output]


def test_what_it_prints(dump: Path, output: Path) -> None:
    """The groups go to the output, and the three lines of the kernel's tool to stdout."""
    done = run(dump, output)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"loaded 1\nsorting ....\nculling\n"
    assert output.read_bytes() == GROUPED
    assert list(output.parent.iterdir()) == [output]


def test_loaded_by_thousands(tmp_path: Path) -> None:
    """Every thousand records are reported, as by the kernel's tool."""
    path = tmp_path / "dump"
    path.write_bytes(RECORD * 2500)
    done = run(path, tmp_path / "out")
    assert done.stdout == b"loaded 1000\rloaded 2000\rloaded 2500\nsorting ....\nculling\n"


def test_dash_is_stdin_and_stdout(dump: Path) -> None:
    """``- -`` reads and writes a pipe, and nothing but the groups is written."""
    done = run("-", "-", input=RECORD, stdin=None)
    assert (done.returncode, done.stdout, done.stderr) == (0, GROUPED, b"")
    assert run(dump, "-").stdout == GROUPED


def test_options_stand_anywhere(dump: Path) -> None:
    """Options may follow the operands, long ones may be abbreviated, and ``--`` ends them."""
    text = b"1 times, 2 pages, PID 7, task_comm_name: some one\n"
    for args in (
        [dump, "-", "--cull=pid,n", "-m"],
        ["--cull", "p", dump, "--cu", "name", "-"],
        ["-m", "--cull=p,n", "--", dump, "-"],
    ):
        assert run(*args).stdout == text


def test_help() -> None:
    """-h and --help list everything, including deliberate differences, and succeed."""
    for option in ("-h", "--help"):
        done = run(option)
        assert (done.returncode, done.stdout.decode(), done.stderr) == (0, HELP, b"")
    assert HELP.startswith(USAGE)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        pytest.param([], "got 0 operands", id="nothing"),
        pytest.param(["{dump}"], "got 1 operands", id="no output"),
        pytest.param(["{dump}", "{out}", "more"], "got 3 operands", id="one too many"),
        pytest.param(["-x", "{dump}", "{out}"], "option -x not recognized", id="letter"),
        pytest.param(["--bogus", "{dump}", "{out}"], "option --bogus not", id="long option"),
        pytest.param(["{dump}", "{out}", "--cull"], "option --cull requires", id="no value"),
        pytest.param(["-a", "-m", "{dump}", "{out}"], "only one sort option", id="two sorts"),
        pytest.param(["-M", "-r", "{dump}", "{out}"], "only one sort option", id="newer sorts"),
    ],
)
def test_wrong_use(args: list[str], message: str, dump: Path, output: Path) -> None:
    """Wrong use prints the kernel's usage on stdout and an error, and exits with 1."""
    done = run(*(arg.format(dump=dump, out=output) for arg in args))
    assert (done.returncode, done.stdout.decode()) == (1, USAGE)
    assert message in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1
    assert_old(output)


def test_usage_is_the_kernels(page_owner_sort: Path) -> None:
    """The usage is that of Linux 6.12, byte for byte."""
    done = subprocess.run([page_owner_sort], capture_output=True, check=False)
    if b"--sort" not in done.stdout or b"\t\t\tSort by memory allocation" not in done.stdout:
        pytest.skip("needs the page_owner_sort of Linux 6.12")
    assert (done.returncode, done.stdout.decode()) == (1, USAGE)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        pytest.param(["--pid=x"], "wrong/invalid pid in from the command line:x", id="pid"),
        pytest.param(["--pid="], "wrong/invalid pid in from the command line:", id="no pid"),
        pytest.param(["--pid=1,,2"], "wrong/invalid pid in from", id="pid between commas"),
        pytest.param(["--pid=4294967297"], "wrong/invalid pid in from", id="pid of 33 bits"),
        pytest.param(["--pid=1_0"], "wrong/invalid pid in from", id="pid of Python"),
        pytest.param(["--tgid=7 "], "wrong/invalid tgid in from the command line:7 ", id="tgid"),
        pytest.param(["--cull=bogus"], "wrong argument after --cull option:bogus", id="cull"),
        pytest.param(["--cull=pid,txt"], "--cull option:pid,txt (keys are pid p,", id="cull txt"),
        pytest.param(["--cull="], "wrong argument after --cull option:", id="cull nothing"),
        pytest.param(["--sort=free"], "wrong argument after --sort option:free", id="sort free"),
        pytest.param(["--sort=pid,,"], "wrong argument after --sort option:pid,,", id="sort"),
        pytest.param(["--sort=times"], "wrong argument after --sort", id="sort by an option's"),
        pytest.param(["-r"], "sorting by free_ts is not possible", id="no free_ts, -r"),
        pytest.param(["-f"], "filtering out freed blocks is not possible", id="no free_ts, -f"),
        pytest.param(["--cull=f"], "culling by free is not possible", id="no free_ts, cull"),
        pytest.param(["--sort=ft"], "sorting by free_ts is not possible", id="no free_ts, sort"),
    ],
)
def test_wrong_values(args: list[str], message: str, dump: Path, output: Path) -> None:
    """A wrong value, or one for which the input lacks data, is a one-line error with code 1."""
    done = run(*args, dump, output)
    assert done.returncode == 1
    assert done.stderr.startswith(b"page_owner_sort: ")
    assert message in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1
    assert_old(output)


@pytest.mark.parametrize(
    ("option", "what"),
    [
        ("-p", "pid"),
        ("-P", "tgid and comm"),
        ("-n", "tgid and comm"),
        ("-a", "ts"),
        ("--pid=1", "pid"),
        ("--tgid=1", "tgid and comm"),
        ("--name=x", "tgid and comm"),
        ("--cull=name", "tgid and comm"),
    ],
)
def test_old_kernels_lack_data(option: str, what: str, output: Path) -> None:
    """Up to Linux 5.10 there are no pids, names or times; options that need them say so."""
    text = b"Page allocated via order 0, mask 0xcc0(GFP_KERNEL)\nPFN 5 type Movable Block 0 type "
    text += b"Movable Flags 0x0()\n foo+0x1/0x2\n\n"
    done = run(option, "-", output, input=text, stdin=None)
    assert done.returncode == 1
    assert f"the records have no {what}\n" in done.stderr.decode()
    assert_old(output)
    assert run("-", "-", input=text, stdin=None).stdout.startswith(b"1 times, 1 pages, alloc")


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        pytest.param("{tmp}/none", "{out}", "none: No such file or directory", id="no input"),
        pytest.param("{tmp}", "{out}", ": Is a directory", id="input is a directory"),
        pytest.param("{dump}", "{tmp}", ": Is a directory", id="output is a directory"),
        pytest.param("{dump}", "{tmp}/none/x", "No such file or directory", id="no such place"),
        pytest.param("{tmp}/noise", "{out}", "noise: no page_owner record found", id="noise"),
    ],
)
def test_wrong_files(source: str, target: str, message: str, dump: Path, output: Path) -> None:
    """A file that cannot be read or written is named, and the output is unchanged."""
    tmp = dump.parent
    (tmp / "noise").write_bytes(bytes(range(256)) * 10)
    names = {"tmp": tmp, "dump": dump, "out": output}
    done = run(source.format(**names), target.format(**names))
    assert (done.returncode, done.stdout) == (1, b"")
    assert message in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1
    assert_old(output)


def test_empty_input(tmp_path: Path) -> None:
    """Empty input is not an error: nothing was allocated."""
    (tmp_path / "dump").touch()
    done = run(tmp_path / "dump", tmp_path / "out")
    assert (done.returncode, done.stdout) == (0, b"loaded 0\nsorting ....\nculling\n")
    assert (tmp_path / "out").read_bytes() == b""


# ---- compressed input ----


def zstd(data: bytes) -> bytes:
    """Compress with zstd."""
    try:
        from compression import zstd as module
    except ImportError:
        from backports import zstd as module
    packed: bytes = module.compress(data)
    return packed


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "zstd": zstd,
}


@pytest.mark.parametrize("name", PACKERS)
def test_packed(name: str, tmp_path: Path) -> None:
    """Compressed text in one or several parts is read, whatever its name, also from a pipe."""
    pack, text = PACKERS[name], SAMPLE.read_bytes()
    path = tmp_path / "dump.txt"
    path.write_bytes(pack(text[:9999]) + pack(text[9999:]))
    plain = run(SAMPLE, "-").stdout
    assert plain.count(b" times, ") > 50
    assert run(path, "-").stdout == plain
    assert run("-", "-", input=path.read_bytes(), stdin=None).stdout == plain


@pytest.mark.parametrize("name", PACKERS)
def test_packed_and_damaged(name: str, tmp_path: Path, output: Path) -> None:
    """Damaged compressed input is an error that names the last record read."""
    path, text = tmp_path / "dump", os.urandom(100_000).hex().encode()
    packed = PACKERS[name](RECORD * 9 + text)
    for damaged in (packed[:-50_000], packed[:50_000] + bytes(5000) + packed[55_000:]):
        path.write_bytes(damaged)
        done = run(path, output)
        assert done.returncode == 1
        assert done.stderr.startswith(f"page_owner_sort: {path}: after record ".encode())
        assert done.stderr.count(b"\n") == 1
        assert_old(output)


def test_not_unpacked(tmp_path: Path) -> None:
    """An unknown compression is not recognized as text."""
    (tmp_path / "dump").write_bytes(bz2.compress(RECORD))
    done = run(tmp_path / "dump", "-")
    assert done.returncode == 1
    assert b"no page_owner record found" in done.stderr


# ---- the output file ----


def test_output_keeps_its_mode(dump: Path, output: Path) -> None:
    """An existing file keeps its mode; a new one gets what umask leaves."""
    output.chmod(0o604)
    run(dump, output)
    assert stat.S_IMODE(output.stat().st_mode) == 0o604
    new = output.with_name("new")
    run(dump, new, umask=0o027)
    assert stat.S_IMODE(new.stat().st_mode) == 0o640


def test_output_is_a_link(dump: Path, output: Path) -> None:
    """The target of a link is written, and the link stays."""
    link = output.with_name("link")
    link.symlink_to(output.name)
    run(dump, link)
    assert link.is_symlink()
    assert output.read_bytes() == GROUPED


def test_output_is_the_input(dump: Path) -> None:
    """A file can be sorted in place: it is read before it is replaced."""
    assert run(dump, dump).returncode == 0
    assert dump.read_bytes() == GROUPED


def test_output_is_no_file(dump: Path, tmp_path: Path) -> None:
    """A device or a pipe is written to, not replaced."""
    assert run(dump, "/dev/null").returncode == 0
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with subprocess.Popen(["cat", fifo], stdout=subprocess.PIPE) as cat:
        assert run(dump, fifo).returncode == 0
        assert cat.communicate(timeout=TIMEOUT)[0] == GROUPED
    assert stat.S_ISFIFO(fifo.stat().st_mode)


@pytest.mark.parametrize("target", ["/dev/stdout", "/proc/self/fd/1", ">(cat)"])
def test_output_is_a_pipe_by_name(target: str, dump: Path) -> None:
    """A link to an open pipe is a pipe, even though no file has the name that it links to."""
    line = ["bash", "-c", f"{' '.join(SORT)} {dump} {target} | cat"]
    done = subprocess.run(line, capture_output=True, check=True, timeout=TIMEOUT)
    assert done.stderr == b""
    assert GROUPED in done.stdout


def test_output_may_not_be_written(dump: Path, ordinary_user: Any) -> None:
    """A read-only file is not replaced, even if its directory would allow that."""
    path = ordinary_user.directory / "sorted"
    path.write_bytes(OLD)
    path.chmod(0o444)
    line = [*ordinary_user.python, "-m", "pageownerfs.page_owner_sort", "-", path]
    done = subprocess.run(line, input=RECORD, capture_output=True, check=False)
    assert done.returncode == 1
    assert f"{path}: Permission denied\n".encode() in done.stderr
    assert path.read_bytes() == OLD
    assert dump.read_bytes() == RECORD


# ---- early ends ----


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
)
def test_interrupted(number: signal.Signals, code: int, output: Path) -> None:
    """A signal ends it silently, and the output is unchanged."""
    line = [*SORT, "-d", "-", output]
    with subprocess.Popen(line, stdin=-1, stdout=-1, stderr=-1) as process:
        assert process.stdin
        # Send enough records for a report, so that it is busy when the signal comes.
        process.stdin.write(RECORD * 30_000)
        process.stdin.flush()
        process.stdin.write(RECORD * 30_000)
        assert len(list(output.parent.iterdir())) == 2
        process.send_signal(number)
        _, stderr = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, stderr) == (code, b"")
    assert_old(output)


def test_nobody_reads_the_groups() -> None:
    """If the reader goes away, it ends silently."""
    line = f"{sys.executable} -m pageownerfs.page_owner_sort -a - - | head -n 1"
    text = b"".join(RECORD.replace(b"ts 5 ", b"ts %d " % i) for i in range(20_000))
    shell = ["bash", "-c", f"{line}; echo ${{PIPESTATUS[0]}}"]
    done = subprocess.run(shell, input=text, capture_output=True, check=True, timeout=TIMEOUT)
    assert done.stdout.splitlines() == [b"1 times, 2 pages, allocated by CMA :", b"141"]
    assert done.stderr == b""


def test_nobody_reads_the_status(dump: Path, output: Path) -> None:
    """It also ends silently if nobody reads its progress."""
    read, write = os.pipe()
    os.close(read)
    done = run(dump, output, capture_output=False, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")
    assert_old(output)


def test_full_disk(dump: Path) -> None:
    """A failed write is an error."""
    done = run(dump, "/dev/full")
    assert done.returncode == 1
    assert done.stderr == b"page_owner_sort: /dev/full: No space left on device\n"


# ---- progress ----

AT_ONCE = (
    "import sys; from pageownerfs.page_owner_sort import command; "
    "from pageownerfs.text import progress; progress._DELAY_SEC = -1; "
    "sys.exit(command.main(sys.argv[1:]))"
)


@pytest.mark.parametrize("source", ["file", "-"])
def test_bar_on_a_terminal(source: str, dump: Path, tmp_path: Path) -> None:
    """On a terminal, stderr shows a bar with the file's name, which vanishes at the end."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    path, stdin = (dump, None) if source == "file" else ("-", RECORD)
    line = [sys.executable, "-c", AT_ONCE, path, tmp_path / "out"]
    done = subprocess.run(line, input=stdin, stdout=-1, stderr=slave, check=False, timeout=TIMEOUT)
    shown = os.read(master, 65536).decode()
    os.close(slave)
    os.close(master)
    assert done.returncode == 0
    name = str(dump) if source == "file" else "standard input"
    assert f"\r{name}: " in shown
    assert not shown.rpartition("\r")[0].rpartition("\r")[2].strip()
    assert shown.endswith("\r")


def test_no_bar_elsewhere(dump: Path, tmp_path: Path) -> None:
    """No bar is written to a file or a pipe."""
    line = [sys.executable, "-c", AT_ONCE, dump, tmp_path / "out"]
    done = subprocess.run(line, capture_output=True, check=True)
    assert done.stderr == b""


def test_debug(dump: Path, tmp_path: Path) -> None:
    """-d reports on stderr what was read."""
    done = run("-d", dump, tmp_path / "out")
    text = f"{len(RECORD)} bytes, 1 selected records, 0 damaged records, 1 groups\n"
    assert done.stderr.decode().endswith(text)


@pytest.mark.parametrize(
    ("redirection", "code", "stderr"),
    [
        pytest.param("- {out} <&-", 1, "standard input: Bad file descriptor\n", id="stdin"),
        pytest.param("{dump} - >&-", 1, "standard output is closed\n", id="stdout"),
        pytest.param("{dump} {out} >&-", 0, "", id="stdout, not needed"),
        pytest.param("{dump} {out} 2>&-", 0, "", id="stderr"),
    ],
)
def test_closed(redirection: str, code: int, stderr: str, dump: Path, output: Path) -> None:
    """A closed stream is an error if it is needed."""
    line = f"{' '.join(SORT)} {redirection.format(dump=dump, out=output)}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, check=False, text=True)
    assert (done.returncode, done.stderr.removeprefix("page_owner_sort: ")) == (code, stderr)
    assert output.read_bytes() == (OLD if code else GROUPED)


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_what_was_left_by_a_run_that_was_killed(dump: Path, tmp_path: Path, mask: int) -> None:
    """A file left by a killed run disturbs nobody, not even a run with the same pid."""
    out = tmp_path / "out"
    script = (
        "import os, sys; from pageownerfs.page_owner_sort.command import main; "
        "open(f'{sys.argv[2]}/.page_owner_sort-{os.getpid()}', 'x'); "
        f"os.umask({mask}); sys.exit(main([sys.argv[1], sys.argv[3]]))"
    )
    line = [sys.executable, "-c", script, dump, tmp_path, out]
    done = subprocess.run(line, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert out.read_bytes() == GROUPED
    assert stat.S_IMODE(out.stat().st_mode) == 0o666 & ~mask
    assert len(list(tmp_path.glob(".page_owner_sort-*"))) == 1


@pytest.mark.parametrize(
    ("redirection", "stderr"),
    [
        ("{dump} {out} >/dev/full", "page_owner_sort: standard output: No space left on device\n"),
        ("--help >/dev/full", "page_owner_sort: standard output: No space left on device\n"),
        ("{dump} - >/dev/full", "page_owner_sort: standard output: No space left on device\n"),
        ("{dump}x {out} 2>/dev/full", ""),
        ("--nonsense 2>/dev/full >/dev/null", ""),
    ],
)
def test_full(redirection: str, stderr: str, dump: Path, output: Path) -> None:
    """A failed write is a one-line error that names the right file."""
    line = f"{' '.join(SORT)} {redirection.format(dump=dump, out=output)}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, check=False, text=True)
    assert (done.returncode, done.stderr) == (1, stderr)
    assert output.read_bytes() == OLD
