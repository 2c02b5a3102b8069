"""The offsets of a page_owner record's fields, as Python packs it."""

import re
import struct

from pageownerfs.mm.page_ext import PAGE_OWNER_STRUCT, PageOwner

_CODES = re.findall("[0-9]*[a-zA-Z]", PAGE_OWNER_STRUCT.format)

PAGE_OWNER_LAYOUT = {
    name: struct.calcsize("<" + "".join(_CODES[:index]))
    for index, name in enumerate(PageOwner._fields)
}
"""Offset of each field, in bytes."""
