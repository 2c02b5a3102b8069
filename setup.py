"""Build the C core, BPF programs, man pages and completion, which setup.cfg cannot describe."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

sys.path.insert(0, "scripts/build")
from install_share import InstallShare

NATIVE = Path("pageownerfs/native")
BPF_SOURCE = NATIVE / "bpf/page_owner.bpf.c"
BPF_OBJECT = NATIVE / "bpf/page_owner.bpf.o"
BPF_ARCHITECTURES = {"x86_64": "x86", "aarch64": "arm64"}

# An optimisation level in CFLAGS takes precedence: -O0 for a debugger.
LEVEL = [] if "-O" in os.environ.get("CFLAGS", "") else ["-O2"]
CFLAGS = [*LEVEL, "-std=gnu11", "-pthread", "-Wall", "-Wextra"]
if os.environ.get("PAGEOWNERFS_WERROR") == "1":
    CFLAGS.append("-Werror")


def bpf_command(target: Path) -> list[str]:
    """Return the command line that compiles the BPF programs for any kernel (CO-RE)."""
    multiarch = sysconfig.get_config_var("MULTIARCH") or f"{os.uname().machine}-linux-gnu"
    architecture = BPF_ARCHITECTURES.get(os.uname().machine, os.uname().machine)
    return [
        *(os.environ.get("CLANG", "clang"), "-O2", "-g", "-mcpu=v3", "-target", "bpf"),
        *(f"-D__TARGET_ARCH_{architecture}", f"-I{NATIVE}", f"-I/usr/include/{multiarch}"),
        *("-Wall", "-Wextra", "-Werror", "-c", str(BPF_SOURCE), "-o", str(target)),
    ]


class BuildNative(build_ext):
    """Also compile the BPF programs; without clang, say so and build the package without."""

    def run(self) -> None:
        """Build the C core and the BPF programs."""
        super().run()
        in_place = self.inplace or getattr(self, "editable_mode", False)
        target = (Path() if in_place else Path(self.build_lib)) / BPF_OBJECT
        target.parent.mkdir(parents=True, exist_ok=True)
        command = bpf_command(target)
        if shutil.which(command[0]) is None:
            target.unlink(missing_ok=True)  # no object is better than an outdated one
            print("clang not found: built without BPF programs (kernel source)", file=sys.stderr)
            return
        try:
            subprocess.run(command, check=True)
        except subprocess.CalledProcessError:
            target.unlink(missing_ok=True)
            if os.environ.get("PAGEOWNERFS_WERROR") == "1":
                raise
            print(
                "the BPF programs do not compile (libbpf-dev is missing?): built without the "
                "kernel source",
                file=sys.stderr,
            )

    def get_outputs(self) -> list[str]:
        """List the installed files."""
        target = Path(self.build_lib) / BPF_OBJECT
        return [*super().get_outputs(), *([str(target)] if target.exists() else [])]


# Every folder is a room of the core, except bpf, which is not compiled for this machine.
SOURCES = [path for path in NATIVE.glob("*/*.c") if path.parent != BPF_SOURCE.parent]

setup(
    cmdclass={"build_ext": BuildNative, "install_data": InstallShare},
    data_files=[("share", [])],  # InstallShare adds the files
    ext_modules=[
        Extension(
            "pageownerfs._native",
            sources=sorted(map(str, SOURCES)),
            depends=sorted(map(str, [*NATIVE.glob("*/*.h"), BPF_SOURCE])),
            include_dirs=[str(NATIVE)],
            define_macros=[("CONFIG_PAGE_OWNER", "1")],
            extra_compile_args=CFLAGS,
            extra_link_args=["-pthread"],
        ),
    ],
)
