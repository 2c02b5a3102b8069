"""
The build backend of pyproject.toml: setuptools, and what a wheel's man pages and completion need.

An editable install has neither of them, and needs setuptools alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from setuptools import build_meta
from setuptools.build_meta import (
    build_editable,
    build_sdist,
    build_wheel,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

WHEEL_REQUIRES: Final = ["shtab>=1.13,<2", "sphinx>=8"]


def get_requires_for_build_wheel(config_settings: Mapping[str, str] | None = None) -> list[str]:
    """Name the packages that building a wheel needs."""
    return [*build_meta.get_requires_for_build_wheel(config_settings), *WHEEL_REQUIRES]
