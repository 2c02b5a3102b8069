"""snapshots/: a dropped snapshot frees its memory at once."""

from __future__ import annotations

import gc
import os
import weakref
from typing import TYPE_CHECKING

from open_files import read_at

from pageownerfs.sources.dump import DumpOptions, DumpSource
from pageownerfs.views import Directory, Tree, make_tree, snapshots
from pageownerfs.views.frozen import FrozenSource

if TYPE_CHECKING:
    import pytest
from data import SAMPLE


def read_all(tree: Directory) -> int:
    """Read every file below; return their number."""
    nr = 0
    for name in tree.names():
        node = tree.lookup(name)
        assert node is not None
        if isinstance(node, Directory):
            nr += read_all(node)
        else:
            read_at(node.open(), 1 << 20, 0)
            nr += 1
    return nr


def test_dropped_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No reference cycle keeps the copy in memory until the garbage collector runs."""
    copies: list[weakref.ref[FrozenSource]] = []

    class Watched(FrozenSource):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)  # type: ignore[arg-type]
            copies.append(weakref.ref(self))

    monkeypatch.setattr(snapshots, "FrozenSource", Watched)
    directory = make_tree(DumpSource(DumpOptions(path=os.fspath(SAMPLE)))).lookup("snapshots")
    assert isinstance(directory, Directory)
    gc.disable()
    try:
        directory.mkdir("copy")
        tree = directory.lookup("copy")
        assert isinstance(tree, Tree)
        assert read_all(tree) > 15
        del tree
        assert [copy() is not None for copy in copies] == [True]
        directory.rmdir("copy")
        assert [copy() for copy in copies] == [None]
    finally:
        gc.enable()
