"""Zones of the running kernel."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from pageownerfs.mm.zone import Zone
from pageownerfs.sources.kernel.zoneinfo import read_zoneinfo

# Two nodes, shortened: the first populated zone of a node has the node's numbers before its own,
# and a zone without pages ends early.
TEXT = """\
Node 0, zone      DMA
  per-node stats
      nr_inactive_anon 61387
      nr_kernel_misc_reclaimable 0
  pages free     3840
        boost    0
        min      84
        spanned  4095
        present  3998
        managed  3840
        cma      0
        protection: (0, 1973, 1973, 1973)
      nr_free_pages 3840
  pagesets
    cpu: 0
              count:    0
              high:     0
  vm stats threshold: 2
  node_unreclaimable:  0
  start_pfn:           1
Node 0, zone  Movable
  pages free     0
        spanned  0
        present  0
        managed  0
        protection: (0, 0, 0, 0)
Node 1, zone   Normal
  pages free     2460962
        spanned  5505024
        present  5505024
        managed  2523136
  node_unreclaimable:  0
  start_pfn:           1048576
Node 1, zone   Device
  pages free     0
        spanned  0
        present  0
        managed  0
"""


def test_recorded() -> None:
    """Each zone has its own numbers; those of an empty one are 0."""
    zones = read_zoneinfo(TEXT)
    assert zones == [
        Zone(0, "DMA", 1, 4095, 3998, 3840),
        Zone(0, "Movable", 0, 0, 0, 0),
        Zone(1, "Normal", 1048576, 5505024, 5505024, 2523136),
        Zone(1, "Device", 0, 0, 0, 0),
    ]
    assert max(zone.end_pfn for zone in zones) == 6553600


def test_empty() -> None:
    """Empty text has no zones."""
    assert read_zoneinfo("") == []


def test_running_kernel() -> None:
    """The zones of this machine hold memory and do not overlap."""
    if not Path("/proc/zoneinfo").exists():
        pytest.skip("needs /proc/zoneinfo")
    zones = read_zoneinfo()
    assert all(zone.managed_pages <= zone.present_pages <= zone.spanned_pages for zone in zones)
    assert sum(zone.managed_pages for zone in zones) > 1000
    populated = sorted((zone.start_pfn, zone.end_pfn) for zone in zones if zone.spanned_pages)
    for (_, end), (start, _) in pairwise(populated):
        assert end <= start
