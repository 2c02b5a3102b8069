"""Tables of records that are read from text: the words of mm that the text is understood by."""

from pageownerfs import _native

from .migratetype import MIGRATE_REASON_NAMES, MIGRATETYPE_NAMES


def new_record_table() -> _native.RecordTable:
    """Make an empty table; what a text has of other migratetypes is added to those of 6.12."""
    return _native.RecordTable(
        MIGRATETYPE_NAMES, MIGRATE_REASON_NAMES, reserved="reserved", node="node", zone="zone"
    )
