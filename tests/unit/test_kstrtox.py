"""Booleans and sizes as the kernel parses them."""

from __future__ import annotations

import pytest

from pageownerfs.mm.kstrtox import format_size, kstrtobool, memparse


@pytest.mark.parametrize("text", ["1", "y", "Y", "yes", "t", "True", "on", "ON", "oN", "1\n"])
def test_true(text: str) -> None:
    """The kernel's words for yes are true."""
    assert kstrtobool(text) is True


@pytest.mark.parametrize("text", ["0", "n", "N", "no", "f", "false", "off", "OFF", "of", "0\n"])
def test_false(text: str) -> None:
    """The kernel's words for no are false."""
    assert kstrtobool(text) is False


@pytest.mark.parametrize("text", ["", "\n", "o", "ox", "2", " 1", "maybe", "-1"])
def test_no_boolean(text: str) -> None:
    """Anything else is refused, including an empty text."""
    with pytest.raises(ValueError, match="not a boolean"):
        kstrtobool(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("007", 7),
        ("0x1000", 4096),
        ("0x10K", 16384),
        ("1k", 1024),
        ("256M", 256 << 20),
        ("256m", 256 << 20),
        ("256MB", 256 << 20),
        ("256MiB", 256 << 20),
        ("1G", 1 << 30),
        ("2T", 2 << 40),
        (" 8 G ", 8 << 30),
    ],
)
def test_sizes(text: str, size: int) -> None:
    """Suffixes are powers of 1024."""
    assert memparse(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1", "1.5G", "1X", "1GG", "0x", "1 000", "1e6"])
def test_no_size(text: str) -> None:
    """Anything but a whole number with one suffix is refused."""
    with pytest.raises(ValueError, match="not a size"):
        memparse(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0"), (1023, "1023"), (1024, "1K"), (1536, "1.5K"), (256 << 20, "256M"), (1 << 41, "2T")],
)
def test_format_size(size: int, text: str) -> None:
    """Sizes for people have at most one decimal."""
    assert format_size(size) == text
