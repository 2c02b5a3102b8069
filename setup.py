"""Build of the C core, the one thing that setup.cfg can't say."""

import os
from pathlib import Path

from setuptools import Extension, setup

NATIVE = Path("pageownerfs/native")

CFLAGS = ["-O2", "-std=gnu11", "-pthread", "-Wall", "-Wextra"]
if os.environ.get("PAGEOWNERFS_WERROR") == "1":
    CFLAGS.append("-Werror")

setup(
    ext_modules=[
        Extension(
            "pageownerfs._native",
            # bench.c is a program of its own
            sources=sorted(str(path) for path in NATIVE.glob("*.c") if path.name != "bench.c"),
            depends=sorted(map(str, NATIVE.glob("*.h"))),
            define_macros=[("CONFIG_PAGE_OWNER", "1")],
            extra_compile_args=CFLAGS,
            extra_link_args=["-pthread"],
        ),
    ],
)
