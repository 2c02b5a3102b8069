"""Mount options as mount(8), fstab and people write them."""

from __future__ import annotations

import pytest

from pageownerfs.cli.options import ParsedOptions, parse_options
from pageownerfs.errors import UsageError
from pageownerfs.sources import SOURCES
from pageownerfs.sources.kernel import KernelOptions
from pageownerfs.sources.kernel.comm_filter import parse_comm
from pageownerfs.sources.pool import PoolOptions

POOL, KERNEL = SOURCES["pool"], SOURCES["kernel"]


@pytest.mark.parametrize(
    ("lists", "pool"),
    [
        pytest.param([], PoolOptions(), id="none"),
        pytest.param([""], PoolOptions(), id="empty"),
        pytest.param(["page_owner=on"], PoolOptions(page_owner=True), id="on"),
        pytest.param(["page_owner=y,page_owner=0"], PoolOptions(), id="last holds"),
        pytest.param(
            ["size=1G,movablecore=64M", "cma=4M"],
            PoolOptions(size_bytes=1 << 30, movablecore_bytes=64 << 20, cma_bytes=4 << 20),
            id="several lists",
        ),
        pytest.param(
            ["stack_depth=64,stack_depot=1M"],
            PoolOptions(stack_depth=64, stack_depot_bytes=1 << 20),
            id="stacks",
        ),
        pytest.param(
            ["rw,nosuid,nodev,relatime,_netdev,x-systemd.automount,comment=a", "size=8M, dev"],
            PoolOptions(size_bytes=8 << 20),
            id="generic ones are ignored",
        ),
    ],
)
def test_pool_options(lists: list[str], pool: PoolOptions) -> None:
    """Several -o lists are merged, and generic options of mount(8) are ignored."""
    assert parse_options(lists, POOL) == ParsedOptions(pool, kernel_abi=False, fuse=())


@pytest.mark.parametrize(
    ("text", "kernel_abi", "fuse"),
    [
        ("kernel_abi", True, ()),
        ("allow_other", False, ("allow_other",)),
        ("ro,allow_root", False, ("allow_root", "ro")),
        ("ro,rw", False, ()),
    ],
)
def test_flags(text: str, kernel_abi: bool, fuse: tuple[str, ...]) -> None:
    """Some flags belong to libfuse."""
    parsed = parse_options([text], POOL)
    assert (parsed.kernel_abi, parsed.fuse) == (kernel_abi, fuse)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("page_owner", "needs a value: page_owner=on|off"),
        ("page_owner=maybe", "-o page_owner: 'maybe' is not a boolean"),
        ("size=", "not a size"),
        ("size=1.5G", "not a size"),
        ("stack_depth=0", "from 1 to 64"),
        ("stack_depth=65", "from 1 to 64"),
        ("stack_depth=x", "from 1 to 64"),
        ("kernel_abi=1", "takes no value"),
        ("allow_other,allow_root", "exclude each other"),
    ],
)
def test_bad_values(text: str, message: str) -> None:
    """A wrong value is refused with the option's name."""
    with pytest.raises(UsageError) as caught:
        parse_options([text], POOL)
    assert message in str(caught.value)


def test_unknown_option_names_the_known() -> None:
    """The error for an unknown option lists the known ones."""
    with pytest.raises(UsageError) as caught:
        parse_options(["pageowner=on"], POOL)
    for name in (
        "-o pageowner for source 'pool';",
        "page_owner=",
        "size=",
        "stack_depth=",
        "kernel_abi",
        "ro",
    ):
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", KernelOptions()),
        ("page_owner=on,stack_depth=0", KernelOptions(page_owner=True, stack_depth=0)),
        ("comm=my app,pid=12,order=9", KernelOptions(comm=parse_comm("my app"), pid=12, order=9)),
        ("user_stacks,hooks=off", KernelOptions(user_stacks=True, hooks=False)),
        ("user_stacks=off,stack_depot=1M", KernelOptions(stack_depot_bytes=1 << 20)),
    ],
)
def test_kernel_options(text: str, options: KernelOptions) -> None:
    """The kernel source has its own options."""
    assert parse_options([text], KERNEL).source == options


@pytest.mark.parametrize(
    ("text", "source", "message"),
    [
        ("size=1G", "kernel", "(it is an option of pool)"),
        ("comm=x", "pool", "(it is an option of kernel)"),
        ("comm=", "kernel", "1 to 15 bytes"),
        ("comm=sixteen_bytes_xx", "kernel", "1 to 15 bytes"),
        ("pid=0", "kernel", "from 1 to"),
        ("pid=me", "kernel", "from 1 to"),
        ("order=11", "kernel", "from 0 to 10"),
        ("stack_depth=65", "kernel", "from 0 to 64"),
        ("user_stacks=maybe", "kernel", "not a boolean"),
    ],
)
def test_bad_options_of_a_source(text: str, source: str, message: str) -> None:
    """The error says to which source a foreign option belongs; values are range-checked."""
    with pytest.raises(UsageError) as caught:
        parse_options([text], SOURCES[source])
    assert message in str(caught.value)
