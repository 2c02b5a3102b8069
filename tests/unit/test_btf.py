"""Types of the running kernel."""

from __future__ import annotations

import ctypes
import errno
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pageownerfs.errors import MountError
from pageownerfs.sources.kernel import btf, libbpf
from pageownerfs.sources.kernel.btf import Btf

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def types() -> Iterator[Btf]:
    """Yield the types of the running kernel; skip the test if there are none."""
    if not Path("/sys/kernel/btf/vmlinux").exists():
        pytest.skip("needs a kernel with BTF")
    try:
        loaded = Btf()
    except MountError as error:
        pytest.skip(f"needs readable kernel types: {error}")
    with loaded:
        yield loaded


def test_enum(types: Btf) -> None:
    """Enumerators, aliases included, have their values and the order of the source."""
    flags = types.enum("pageflags")
    assert next(iter(flags)) == "PG_locked"
    assert flags["PG_locked"] == 0
    assert flags["PG_checked"] == flags["PG_owner_priv_1"]
    assert flags["__NR_PAGEFLAGS"] == max(flags.values())
    assert types.enum("migratetype")["MIGRATE_PCPTYPES"] == 3


def test_enum_with_64_bits(types: Btf) -> None:
    """An enum with 64-bit values can be read."""
    try:
        contexts = types.enum("perf_callchain_context")
    except KeyError:
        pytest.skip("needs a kernel with this 64-bit enum")
    assert contexts["PERF_CONTEXT_KERNEL"] & 0xFFFFFFFF == 2**32 - 128


def test_no_such_type(types: Btf) -> None:
    """A missing type is named in the error, or the answer is no."""
    with pytest.raises(KeyError, match="enum nosuch"):
        types.enum("nosuch")
    with pytest.raises(KeyError, match="struct nosuch"):
        types.size_of("nosuch")
    with pytest.raises(KeyError, match="struct nosuch"):
        types.array_length("nosuch", "x")
    with pytest.raises(KeyError, match=r"page\.nosuch"):
        types.array_length("page", "nosuch")
    assert not types.has_member("nosuch", "x")
    assert not types.has_member("page", "nosuch")
    assert types.nr_params("nosuch") is None


def test_members(types: Btf) -> None:
    """Members are found by name, also in anonymous unions and structs, and so are bit fields."""
    for member in ("flags", "compound_head", "_refcount"):
        assert types.has_member("page", member)
    for member in ("in_execve", "comm"):
        assert types.has_member("task_struct", member)
    assert types.size_of("page") % 8 == 0
    assert types.size_of("list_head") == 16


def test_arrays(types: Btf) -> None:
    """The length of an array is found, and other members are refused."""
    assert types.array_length("task_struct", "comm") == 16
    zones = types.enum("zone_type")["__MAX_NR_ZONES"]
    assert types.array_length("zonelist", "_zonerefs") % zones == 1
    with pytest.raises(KeyError, match=r"list_head\.next is not an array"):
        types.array_length("list_head", "next")


def test_nr_params(types: Btf) -> None:
    """The number of parameters is found, as for split_page(page, order), and also if it is 0."""
    assert types.nr_params("split_page") == 2
    assert types.nr_params("schedule") == 0


def test_asked_by_name(types: Btf, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query looks one type up by name and does not walk over the others."""
    asked: list[str] = []

    class Counted:
        """Libbpf with a record of each call."""

        def __getattr__(self, name: str) -> Any:
            """Record the call."""
            asked.append(name)
            return getattr(libbpf.library(), name)

    monkeypatch.setattr(types, "_lib", Counted())
    types.nr_params("nosuch")
    assert asked == ["btf__find_by_name_kind"]
    asked.clear()
    types.nr_params("split_page")
    assert len(asked) < 5


def test_closed() -> None:
    """Closing twice is harmless, and a query after that is an error."""
    if not Path("/sys/kernel/btf/vmlinux").exists():
        pytest.skip("needs a kernel with BTF")
    loaded = Btf()
    loaded.close()
    loaded.close()
    with pytest.raises(AssertionError, match="closed"):
        loaded.enum("pageflags")


def test_no_btf(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel without BTF is refused, and the error names what is missing."""

    class Library:
        """A libbpf on a kernel without BTF."""

        def btf__load_vmlinux_btf(self) -> None:
            """Fail."""
            ctypes.set_errno(errno.ESRCH)

    monkeypatch.setattr(libbpf, "library", Library)
    with pytest.raises(MountError, match=r"No such process.*CONFIG_DEBUG_INFO_BTF=y") as raised:
        btf.Btf()
    assert "\n" not in str(raised.value)
