"""The places in a text that the positions of an open file stand for."""

from __future__ import annotations

import random

from pageownerfs.views.positions import Positions


def test_untouched() -> None:
    """An offset is its own place unless a read or write has ended there."""
    positions = Positions()
    assert [positions.place(offset) for offset in (0, 1, 1 << 40)] == [0, 1, 1 << 40]


def test_reads_go_on() -> None:
    """A read continues where the last one ended, whatever preads come in between."""
    positions, offset, place = Positions(), 0, 0
    for step in range(1, 30):
        assert positions.place(offset) == place
        positions.read(offset, offset + 100, place + step)
        offset, place = offset + 100, place + step
        for _ in range(step):
            elsewhere = random.randrange(1 << 20, 1 << 30)
            positions.read(elsewhere, elsewhere + 7, positions.place(elsewhere) + 5)


def test_a_write_moves_the_position_only() -> None:
    """A write moves the position by 12 bytes but not the place, also after a seek."""
    positions = Positions()
    positions.read(0, 500, 500)
    positions.write(500, 512)
    assert positions.place(512) == 500
    positions.read(512, 612, 600)
    assert positions.place(612) == 600
    positions.write(7000, 7012)
    for offset in range(9000, 9100, 10):
        positions.read(offset, offset + 5, offset + 5)
    assert positions.place(7012) == 7000
