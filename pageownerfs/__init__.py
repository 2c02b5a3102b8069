"""
Track who allocated each page: the kernel's page owner for any Linux, as a mount.

Programs that allocate pages in a shared pool begin with ``Pool.attach(mountpoint)``. The gfp
masks have the kernel's names and values. Importing this package starts nothing and does not
load libfuse.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._native import Page
    from .client import Client, Pool
    from .errors import (
        BadPageError,
        MountError,
        NotAPoolError,
        OutOfMemoryError,
        PageOwnerError,
        PoolAccessError,
        UsageError,
        VersionMismatchError,
    )
    from .mm.gfp import (
        __GFP_ACCOUNT,
        __GFP_COMP,
        __GFP_DIRECT_RECLAIM,
        __GFP_DMA,
        __GFP_DMA32,
        __GFP_FS,
        __GFP_HARDWALL,
        __GFP_HIGH,
        __GFP_HIGHMEM,
        __GFP_IO,
        __GFP_KSWAPD_RECLAIM,
        __GFP_MEMALLOC,
        __GFP_MOVABLE,
        __GFP_NOFAIL,
        __GFP_NOMEMALLOC,
        __GFP_NORETRY,
        __GFP_NOWARN,
        __GFP_RECLAIM,
        __GFP_RECLAIMABLE,
        __GFP_RETRY_MAYFAIL,
        __GFP_THISNODE,
        __GFP_WRITE,
        __GFP_ZERO,
        __GFP_ZEROTAGS,
        GFP_ATOMIC,
        GFP_DMA,
        GFP_DMA32,
        GFP_HIGHUSER,
        GFP_HIGHUSER_MOVABLE,
        GFP_KERNEL,
        GFP_KERNEL_ACCOUNT,
        GFP_NOFS,
        GFP_NOIO,
        GFP_NOWAIT,
        GFP_TRANSHUGE,
        GFP_TRANSHUGE_LIGHT,
        GFP_USER,
    )
    from .mm.zone import Zone

__version__ = "0.1.0"

__all__ = [
    "GFP_ATOMIC",
    "GFP_DMA",
    "GFP_DMA32",
    "GFP_HIGHUSER",
    "GFP_HIGHUSER_MOVABLE",
    "GFP_KERNEL",
    "GFP_KERNEL_ACCOUNT",
    "GFP_NOFS",
    "GFP_NOIO",
    "GFP_NOWAIT",
    "GFP_TRANSHUGE",
    "GFP_TRANSHUGE_LIGHT",
    "GFP_USER",
    "__GFP_ACCOUNT",
    "__GFP_COMP",
    "__GFP_DIRECT_RECLAIM",
    "__GFP_DMA",
    "__GFP_DMA32",
    "__GFP_FS",
    "__GFP_HARDWALL",
    "__GFP_HIGH",
    "__GFP_HIGHMEM",
    "__GFP_IO",
    "__GFP_KSWAPD_RECLAIM",
    "__GFP_MEMALLOC",
    "__GFP_MOVABLE",
    "__GFP_NOFAIL",
    "__GFP_NOMEMALLOC",
    "__GFP_NORETRY",
    "__GFP_NOWARN",
    "__GFP_RECLAIM",
    "__GFP_RECLAIMABLE",
    "__GFP_RETRY_MAYFAIL",
    "__GFP_THISNODE",
    "__GFP_WRITE",
    "__GFP_ZERO",
    "__GFP_ZEROTAGS",
    "BadPageError",
    "Client",
    "MountError",
    "NotAPoolError",
    "OutOfMemoryError",
    "Page",
    "PageOwnerError",
    "Pool",
    "PoolAccessError",
    "UsageError",
    "VersionMismatchError",
    "Zone",
    "__version__",
]


def __getattr__(name: str) -> object:
    """Import a public name on first use, so that commands that don't need it start faster."""
    if name in __all__:
        from . import _native, client, errors  # noqa: PLC0415
        from .mm import gfp  # noqa: PLC0415

        for module in (errors, gfp, client, _native):
            if hasattr(module, name):
                value: object = getattr(module, name)
                globals()[name] = value
                return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
