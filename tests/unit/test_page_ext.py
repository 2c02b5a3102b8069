"""The 64-byte record: its layout, and how it is packed and unpacked."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageownerfs.mm import page_ext
from pageownerfs.mm.page_ext import PageOwner

NATIVE = Path(__file__).resolve().parents[2] / "pageownerfs" / "native"

RECORD = PageOwner(
    ts_nsec=0x0102030405060708,
    free_ts_nsec=9,
    gfp_mask=0x140CCA,
    pid=101,
    tgid=81,
    handle=0xFFFFFFFF,
    free_handle=7,
    free_pid=-1,
    free_tgid=-2,
    order=9,
    last_migrate_reason=-1,
    state=page_ext.PAGE_EXT_OWNER_ALLOCATED | page_ext.PAGE_EXT_OWNER_EARLY,
    pageblock_migratetype=1,
    comm=b"a) b), ts 5 ns",
)

records = st.builds(
    PageOwner,
    **dict.fromkeys(("ts_nsec", "free_ts_nsec"), st.integers(0, 2**64 - 1)),
    **dict.fromkeys(("gfp_mask", "handle", "free_handle"), st.integers(0, 2**32 - 1)),
    **dict.fromkeys(("pid", "tgid", "free_pid", "free_tgid"), st.integers(-(2**31), 2**31 - 1)),
    **dict.fromkeys(("order", "state", "pageblock_migratetype"), st.integers(0, 255)),
    last_migrate_reason=st.integers(-128, 127),
    comm=st.binary(max_size=15).filter(lambda comm: b"\0" not in comm),
)


def test_record_written_by_c(tmp_path: Path) -> None:
    """A record that a C program fills through page_owner.h reads back the same."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not (NATIVE / "base/page_owner.h").is_file():
        pytest.skip("needs a C compiler, and page_owner.h in the package")
    numbers = RECORD._replace(state=PageOwner._fields.index("state"))._asdict()
    comm = numbers.pop("comm").decode()
    fill = "".join(f"owner.{name} = ({value}LL);\n" for name, value in numbers.items())
    states = ("ALLOCATED", "FREED", "EARLY", "MIGRATED")
    source = tmp_path / "record.c"
    source.write_text(
        "#include <stdio.h>\n#include <string.h>\n"
        '#include "base/page_owner.h"\n'
        f"int main(void)\n{{\nstruct page_owner owner = {{ 0 }};\n{fill}"
        f'strcpy(owner.comm, "{comm}");\nfwrite(&owner, sizeof(owner), 1, stdout);\n'
        + "".join(f"putchar(PAGE_EXT_OWNER_{state});\n" for state in states)
        + "putchar(TASK_COMM_LEN);\nreturn 0;\n}\n"
    )
    subprocess.run([compiler, "-I", NATIVE, "-o", tmp_path / "record", source], check=True)
    written = subprocess.run([tmp_path / "record"], check=True, stdout=subprocess.PIPE).stdout
    assert PageOwner.unpack(written[:64]) == PageOwner(**numbers, comm=comm.encode())
    python_states = [getattr(page_ext, f"PAGE_EXT_OWNER_{state}") for state in states]
    assert list(written[64:]) == [*python_states, page_ext.TASK_COMM_LEN]


def test_bytes_of_a_record() -> None:
    """Fields lie at their offsets, little-endian, and comm is padded with NUL."""
    packed = RECORD.pack()
    assert packed[:8] == bytes((8, 7, 6, 5, 4, 3, 2, 1))
    assert packed[16:20] == bytes((0xCA, 0x0C, 0x14, 0))
    assert packed[44:48] == bytes((9, 255, 5, 1))
    assert packed[48:] == b"a) b), ts 5 ns\0\0"


@given(records)
def test_unpack_is_the_inverse_of_pack(record: PageOwner) -> None:
    """Any record can be unpacked from its bytes, whatever kind of buffer holds them."""
    assert PageOwner.unpack(record.pack()) == record
    assert PageOwner.unpack(memoryview(bytearray(record.pack()))) == record


@pytest.mark.parametrize(
    ("raw", "comm"),
    [
        pytest.param(b"\xff\n)\0left over\0\0\0", b"\xff\n)", id="ends at the first NUL"),
        pytest.param(b"0123456789abcdef", b"0123456789abcde", id="the 16th byte is no name"),
        pytest.param(b"\0" * 16, b"", id="empty"),
    ],
)
def test_comm_of_foreign_bytes(raw: bytes, comm: bytes) -> None:
    """A comm is a C string of at most 15 bytes, whatever a client wrote."""
    assert PageOwner.unpack(RECORD.pack()[:48] + raw).comm == comm


@pytest.mark.parametrize("size", [0, 63, 65])
def test_unpack_refuses_other_sizes(size: int) -> None:
    """A record of the wrong size is refused, and the error has both sizes."""
    with pytest.raises(ValueError, match=f"has 64 bytes, not {size}"):
        PageOwner.unpack(bytes(size))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        pytest.param({"comm": b"0123456789abcdef"}, "more than 15 bytes", id="long comm"),
        pytest.param({"comm": b"a\0b"}, "contains a NUL", id="NUL in comm"),
        pytest.param({"order": 256}, "does not fit", id="order"),
        pytest.param({"gfp_mask": -1}, "does not fit", id="negative mask"),
    ],
)
def test_pack_refuses(change: dict[str, Any], complaint: str) -> None:
    """A value that does not fit into the 64 bytes is refused, not truncated."""
    with pytest.raises(ValueError, match=complaint):
        RECORD._replace(**change).pack()


def test_state() -> None:
    """Each bit of state has its property."""
    assert (RECORD.is_allocated, RECORD.is_freed, RECORD.is_early) == (True, False, True)
    freed = RECORD._replace(state=10)
    assert (freed.is_allocated, freed.is_freed, freed.is_early) == (False, True, False)


def test_nr_pages() -> None:
    """An allocation of order 9 has 512 base pages."""
    assert RECORD.nr_pages == 512
