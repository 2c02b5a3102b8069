"""
Query the types of the running kernel (BTF, /sys/kernel/btf/vmlinux) through libbpf.

Facts that depend on a kernel's configuration, such as the values of enumerators and the members of
structs, come from here and are never derived from a version. Documentation/bpf/btf.rst describes
the format: a type is a struct btf_type, followed by vlen rows.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final, NamedTuple, Self

from pageownerfs.errors import MountError
from pageownerfs.sources.kernel import libbpf

# BTF_KIND_* of include/uapi/linux/btf.h
_ARRAY: Final = 3
_STRUCT: Final = 4
_UNION: Final = 5
_ENUM: Final = 6
_TYPEDEF: Final = 8
_FUNC: Final = 12
_FUNC_PROTO: Final = 13
_ENUM64: Final = 19
# typedef, volatile, const, restrict, type tag: they modify the type that they refer to.
_MODIFIERS: Final = frozenset((8, 9, 10, 11, 18))
_AGGREGATES: Final = frozenset((_STRUCT, _UNION))


class _TypeHeader(ctypes.Structure):
    """struct btf_type."""

    _fields_ = (
        ("name_off", ctypes.c_uint32),
        ("info", ctypes.c_uint32),
        ("size_or_type", ctypes.c_uint32),
    )


class _ArrayRow(ctypes.Structure):
    """struct btf_array."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("index_type", ctypes.c_uint32),
        ("nelems", ctypes.c_uint32),
    )


class _MemberRow(ctypes.Structure):
    """struct btf_member."""

    _fields_ = (
        ("name_off", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("offset", ctypes.c_uint32),
    )


class _EnumRow(ctypes.Structure):
    """struct btf_enum."""

    _fields_ = (("name_off", ctypes.c_uint32), ("val", ctypes.c_int32))


class _Enum64Row(ctypes.Structure):
    """struct btf_enum64."""

    _fields_ = (
        ("name_off", ctypes.c_uint32),
        ("val_lo32", ctypes.c_uint32),
        ("val_hi32", ctypes.c_uint32),
    )


class _Type(NamedTuple):
    """A type: the fields of its header, and the address of its rows."""

    kind: int
    vlen: int
    kind_flag: bool
    size_or_type: int
    rows_address: int

    def rows(self, row: type[ctypes.Structure]) -> Any:  # noqa: ANN401 - an array of rows
        """Return the rows after the header."""
        return (row * self.vlen).from_address(self.rows_address)


class Btf:
    """
    The types of vmlinux; a context manager that frees them.

    Loading takes about 10 ms, a query less than 1 ms. If several types have the same name, the
    first one counts.

    :raises MountError: libbpf is missing, or the kernel has no BTF
    """

    def __init__(self) -> None:
        self._lib = libbpf.library()
        pointer = self._lib.btf__load_vmlinux_btf()
        try:
            self._btf: int | None = libbpf.check_pointer(pointer, "btf__load_vmlinux_btf")
        except OSError as error:
            raise MountError(
                f"cannot read the kernel's types ({error.strerror}): use a kernel built with "
                "CONFIG_DEBUG_INFO_BTF=y (/sys/kernel/btf/vmlinux)"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the types. No other method may be called after that, except close()."""
        if self._btf is not None:
            self._lib.btf__free(self._btf)
            self._btf = None

    def enum(self, name: str) -> dict[str, int]:
        """
        Return an enum, with its enumerators in the order of the source, including aliases.

        :param name: ``pageflags`` for ``enum pageflags``
        :return: enumerator -> value
        :raises KeyError: the kernel has no such enum
        """
        found = self._find(name, _ENUM)
        if found is not None:
            return {self._string(row.name_off): row.val for row in found.rows(_EnumRow)}
        found = self._find(name, _ENUM64)
        if found is None:
            raise KeyError(f"enum {name}")
        values = {}
        for row in found.rows(_Enum64Row):
            value = row.val_hi32 << 32 | row.val_lo32
            # kind_flag means that the values are signed.
            negative = found.kind_flag and value >> 63
            values[self._string(row.name_off)] = value - (1 << 64) if negative else value
        return values

    def has_member(self, struct: str, member: str) -> bool:
        """
        Return whether a struct or union has a member, including those of anonymous members.

        :param struct: name without ``struct``; a struct that does not exist has no members
        :param member: name of the member
        """
        found = self._find_aggregate(struct)
        return found is not None and self._find_member(found, member) is not None

    def array_length(self, struct: str, member: str) -> int:
        """
        Return the number of elements of a member that is an array.

        :raises KeyError: there is no such struct or member, or the member is not an array
        """
        found = self._resolve(self._member(struct, member))
        if found.kind != _ARRAY:
            raise KeyError(f"{struct}.{member} is not an array")
        row: _ArrayRow = _ArrayRow.from_address(found.rows_address)
        return int(row.nelems)

    def size_of(self, struct: str) -> int:
        """
        Return the size of a struct or union.

        :param struct: name without ``struct``
        :return: bytes
        :raises KeyError: there is no such struct
        """
        return self._aggregate(struct).size_or_type

    def nr_params(self, function: str) -> int | None:
        """
        Return the number of parameters of a function.

        :param function: name; a function in BTF can't necessarily be hooked
        :return: number of parameters; None if there is no such function
        """
        found = self._find(function, _FUNC)
        if found is None:
            return None
        proto = self._type(found.size_or_type)
        return proto.vlen if proto.kind == _FUNC_PROTO else None

    def has_tracepoint(self, name: str) -> bool:
        """Return whether raw programs can attach to a tracepoint: whether it has a typedef."""
        return self.has_typedef(f"btf_trace_{name}")

    def has_typedef(self, name: str) -> bool:
        """Return whether the kernel has and uses a typedef."""
        return self._find(name, _TYPEDEF) is not None

    def _find(self, name: str, kind: int) -> _Type | None:
        assert self._btf is not None, "closed"
        type_id = self._lib.btf__find_by_name_kind(self._btf, name.encode(), kind)
        return self._type(type_id) if type_id > 0 else None

    def _find_aggregate(self, name: str) -> _Type | None:
        return self._find(name, _STRUCT) or self._find(name, _UNION)

    def _aggregate(self, name: str) -> _Type:
        found = self._find_aggregate(name)
        if found is None:
            raise KeyError(f"struct {name}")
        return found

    def _member(self, struct: str, member: str) -> int:
        found = self._find_member(self._aggregate(struct), member)
        if found is None:
            raise KeyError(f"{struct}.{member}")
        return found

    def _find_member(self, aggregate: _Type, member: str) -> int | None:
        """Return the id of a member's type, or None."""
        for row in aggregate.rows(_MemberRow):
            name, type_id = self._string(row.name_off), row.type
            if name == member:
                return int(type_id)
            if not name:
                inner = self._resolve(type_id)
                found = self._find_member(inner, member) if inner.kind in _AGGREGATES else None
                if found is not None:
                    return found
        return None

    def _resolve(self, type_id: int) -> _Type:
        found = self._type(type_id)
        while found.kind in _MODIFIERS:
            found = self._type(found.size_or_type)
        return found

    def _type(self, type_id: int) -> _Type:
        pointer = self._lib.btf__type_by_id(self._btf, type_id)
        address = libbpf.check_pointer(pointer, f"BTF type {type_id}")
        header = _TypeHeader.from_address(address)
        return _Type(
            kind=header.info >> 24 & 0x1F,
            vlen=header.info & 0xFFFF,
            kind_flag=bool(header.info >> 31),
            size_or_type=header.size_or_type,
            rows_address=address + ctypes.sizeof(_TypeHeader),
        )

    def _string(self, offset: int) -> str:
        name: bytes = self._lib.btf__name_by_offset(self._btf, offset)
        return name.decode()
