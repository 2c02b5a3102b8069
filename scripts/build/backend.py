"""
The build backend of pyproject.toml: setuptools, with more build requirements for a wheel.

A wheel needs Sphinx for its man pages and shtab for shell completion. An editable install has
neither and needs only setuptools.
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
    """Return the packages that the build of a wheel needs."""
    return [*build_meta.get_requires_for_build_wheel(config_settings), *WHEEL_REQUIRES]
