"""
Group and sort the records of page_owner: tools/mm/page_owner_sort.c as a command and a library.

This room uses only the room text and the C core (native/sort), so that the command starts fast.
The command is in command.py. To use the library:

>>> from pageownerfs.page_owner_sort import PAGES, Rules, STACKTRACE, SortKey, group_file
>>> rules = Rules(cull=[STACKTRACE], sort=[SortKey(PAGES, descending=True)])
>>> for group in group_file("/mnt/po/page_owner", rules):  # doctest: +SKIP
...     print(group.times, group.pages, group.stacktrace.decode())

read_records() and parse_records() yield single records with typed fields; group_records() groups
them. A Group has ``times`` (number of records), ``pages`` (their base pages), and the fields of
its first record: ``order``, ``mask``, ``pid``, ``tgid``, ``comm``, ``ts_nsec``, ``free_ts_nsec``,
``allocator``, ``module``, ``stacktrace``, ``text``. Fields that the text lacks are None.
format_groups() makes the text that the command writes.
"""

from pageownerfs._native import Group, Groups
from pageownerfs.text.record import Damage, Record, parse_records, read_records

from .groups import damage, group_file, group_records, group_text, new_groups
from .keys import (
    ALLOC_TS,
    ALLOCATOR,
    FREE,
    FREE_TS,
    KEYS,
    MODULE,
    NAME,
    PAGES,
    PID,
    STACKTRACE,
    TGID,
    TIMES,
    TXT,
    Key,
    Rules,
    SortKey,
)
from .output import format_groups

__all__ = [
    "ALLOCATOR",
    "ALLOC_TS",
    "FREE",
    "FREE_TS",
    "KEYS",
    "MODULE",
    "NAME",
    "PAGES",
    "PID",
    "STACKTRACE",
    "TGID",
    "TIMES",
    "TXT",
    "Damage",
    "Group",
    "Groups",
    "Key",
    "Record",
    "Rules",
    "SortKey",
    "damage",
    "format_groups",
    "group_file",
    "group_records",
    "group_text",
    "new_groups",
    "parse_records",
    "read_records",
]
