"""
Serve a saved page_owner through FUSE, with kernel_abi, until it is unmounted.

usage: serve_recorded.py MOUNTPOINT DUMP

Needs root, because other users may enter the mount.
"""

import os
import sys

from recorded import RecordedSource

from pageownerfs.fs import FileSystem, Session, load_binding
from pageownerfs.page_owner_sort import read_records
from pageownerfs.views import make_tree


def main(mountpoint: str, dump: str) -> None:
    """Mount and serve."""
    source = RecordedSource(list(read_records(dump)))
    try:
        filesystem = FileSystem(make_tree(source, kernel_abi=True), {}, kernel_abi=True)
        session = Session(load_binding(), filesystem)
        session.run("recorded", os.fsencode(mountpoint), ("allow_other",))
    finally:
        source.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
