"""The text of a source's records, for page_owner and sorted/."""

from __future__ import annotations

import functools
import logging
import threading
from typing import TYPE_CHECKING, NamedTuple

from pageownerfs import _native
from pageownerfs.mm.formats import reorder_gfp_names
from pageownerfs.mm.gfp import format_gfp
from pageownerfs.mm.page_flags import decode_page_flags, page_flags_mask

if TYPE_CHECKING:
    from collections.abc import Callable

    from pageownerfs.mm.formats import Format
    from pageownerfs.mm.vocabulary import Vocabulary
    from pageownerfs.sources.base import Source, StackText

_log = logging.getLogger(__name__)


def _fields(output_format: Format | None) -> int:
    if output_format is None:
        return 0
    fields = _native.HAS_PID | _native.HAS_TGID | _native.HAS_TS | _native.HAS_PFN
    fields |= _native.PFN_HEX if output_format.pfn_hex else 0
    return fields | (_native.HAS_FREE_TS if output_format.free_ts else 0)


class RecordText:
    """Render the records of a source; the text of each number in them is made once."""

    def __init__(self, source: Source, output_format: Format | None) -> None:
        """
        Prepare to render the records of ``source``.

        :param output_format: format of records; None for that of a dump, or of Linux 6.12
        """
        self._source = source
        self._format = output_format
        self._lock = threading.Lock()
        self._made: tuple[_native.Table, _native.Renderer] | None = None

    def renderer(self) -> _native.Renderer:
        """
        Return the renderer of the current table; made on first use.

        :raises PageOwnerOffError: tracking is off
        """
        table = self._source.table()
        with self._lock:
            if self._made is None or self._made[0] is not table:
                self._made = table, self._make(table)
            return self._made[1]

    def forget(self) -> None:
        """Free the renderer, and with it the table of records that are no longer tracked."""
        with self._lock:
            self._made = None

    def _make(self, table: _native.Table) -> _native.Renderer:
        source = self._source
        vocabulary = source.vocabulary
        # Not a method: a cycle would keep the table of a removed snapshot in memory.
        names = _Names(vocabulary, source.stack_text, source.memcg_lines)
        return _native.Renderer(
            table,
            functools.partial(_text, names, self._format),
            fields=_fields(self._format),
            flags_mask=page_flags_mask(vocabulary.page_flag_names),
            flags_fields=vocabulary.page_flags_fields,
        )


class _Names(NamedTuple):
    # What names the numbers in the records of one table, also when tracking has been switched off.
    vocabulary: Vocabulary
    stack_text: StackText
    memcg_lines: Callable[[int], bytes]


def _text(names: _Names, output_format: Format | None, kind: int, value: int) -> bytes:
    # The renderer calls this once for each value, and caches the text.
    try:
        return _name(names, output_format, kind, value)
    except ValueError as error:
        # A client has overwritten the tables: show the number, and continue.
        _log.warning("page_owner: %s", error)
        return b"" if kind == _native.TEXT_STACK else b"%d?" % value


def _name(names: _Names, output_format: Format | None, kind: int, value: int) -> bytes:
    vocabulary = names.vocabulary
    match kind:
        case _native.TEXT_GFP:
            name = _gfp(vocabulary, output_format, value)
        case _native.TEXT_FLAGS:
            name = decode_page_flags(value, vocabulary.page_flag_names)
        case _native.TEXT_STACK:
            return names.stack_text(value)
        case _native.TEXT_MIGRATE_REASON:
            name = vocabulary.migrate_reason_name(value)
        case _native.TEXT_MIGRATETYPE:
            name = vocabulary.migratetype_name(value)
        case _native.TEXT_MEMCG:
            return names.memcg_lines(value)
        case _:
            msg = f"the renderer asked for a text of unknown kind {kind}"
            raise AssertionError(msg)
    return name.encode(errors="surrogateescape")


def _gfp(vocabulary: Vocabulary, output_format: Format | None, gfp_mask: int) -> str:
    if output_format is None:
        return vocabulary.format_gfp(gfp_mask)
    if vocabulary.gfp_names is not None:
        names = reorder_gfp_names(vocabulary.gfp_names, output_format.gfp_names)
        return format_gfp(gfp_mask, names)
    # For a mask of a dump only the printed names are known: sort them in the format's order.
    number, _, printed = vocabulary.format_gfp(gfp_mask).rstrip(")").partition("(")
    order = {row.name: place for place, row in enumerate(output_format.gfp_names)}
    words = sorted(printed.split("|"), key=lambda word: order.get(word, len(order)))
    return f"{number}({'|'.join(words)})"
