"""Load a saved page_owner into a table; the mount's page_owner has the same text."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from pageownerfs.errors import MountError, PageOwnerError
from pageownerfs.mm.record_table import new_record_table
from pageownerfs.sources.recorded import RecordedSource
from pageownerfs.text.input import Window, open_input
from pageownerfs.text.progress import no_progress
from pageownerfs.text.record import Damage

if TYPE_CHECKING:
    from pageownerfs import _native
    from pageownerfs.text.progress import Progress

    from .options import DumpOptions

_log = logging.getLogger(__name__)

_MAX_LOGGED: Final = 8


def read_dump(path: str, progress: Progress = no_progress) -> tuple[_native.RecordTable, bool]:
    """
    Read a saved page_owner of any kernel that has one.

    A record takes 64 bytes of memory; each distinct stack and name is stored once. Incomplete or
    damaged records are counted, logged and skipped.

    :return: the table, and whether the end is lost because compressed data ended too early or was
        damaged
    :raises PageOwnerError: the text can't be read, or has no record
    """
    table = new_record_table()
    with open_input(path) as source:
        source.place = lambda: f"after record {table.nr_records}: "
        window = Window()
        try:
            while nr_bytes := source.readinto(window.room):
                if window.add(nr_bytes):
                    window.drop(table.feed(window.text))
                    progress(source.nr_bytes, source.total_bytes, table.nr_records)
        except PageOwnerError as error:
            if not source.is_cut or not table.nr_records:
                raise
            _log.warning("%s; the rest is lost", error)
        table.feed(window.text, final=True)
        progress(source.nr_bytes, source.total_bytes, table.nr_records)
        name, is_cut = source.name, source.is_cut
    for damage in table.damage[:_MAX_LOGGED]:
        _log.warning("%s: %s; skipped", name, Damage(*damage))
    if table.nr_damaged > _MAX_LOGGED:
        _log.warning("%s: %d damaged records in total", name, table.nr_damaged)
    if not table.nr_records:
        why = f"{Damage(*table.damage[0])}" if table.nr_damaged else "the text is empty"
        msg = f"{name}: no page_owner record found; {why}"
        raise MountError(msg)
    return table, is_cut


class DumpSource(RecordedSource):
    """A saved page_owner as a source."""

    def __init__(self, options: DumpOptions, progress: Progress = no_progress) -> None:
        """
        Read the dump.

        :raises PageOwnerError: the dump can't be read, or has no record
        """
        table, is_cut = read_dump(options.path, progress)
        stats = {
            "records": table.nr_records,
            "damaged_records": table.nr_damaged,
            "cut_files": int(is_cut),
            "verbatim_records": table.nr_verbatim,
            "text_bytes": table.nr_text_bytes,
            "stacks": table.nr_stacks,
            "record_bytes": table.nr_bytes,
        }
        lacks = "a dump does not show which pages are free"
        super().__init__(
            table,
            stats,
            {"free_areas": lacks},
            path=options.path,
            zone_names=options.zone_names,
        )
