"""Make tables for records that are read from text."""

from pageownerfs import _native

from .migratetype import MIGRATE_REASON_NAMES, MIGRATETYPE_NAMES


def new_record_table() -> _native.RecordTable:
    """Make an empty table with 6.12's migratetypes; others are added as a text names them."""
    return _native.RecordTable(
        MIGRATETYPE_NAMES, MIGRATE_REASON_NAMES, reserved="reserved", node="node", zone="zone"
    )
