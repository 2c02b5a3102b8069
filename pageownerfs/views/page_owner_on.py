"""
``page_owner_on``: whether owners are tracked, and the switch to start it.

The kernel has page_owner=on at boot only; here writing a true value starts tracking while
processes run. It can't be stopped again, as in the kernel: what it has recorded would be lost,
and every table that readers hold with it.
"""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING

from pageownerfs.errors import PageOwnerError
from pageownerfs.mm.kstrtox import kstrtobool

from .text import TextFile
from .view import ViewError

if TYPE_CHECKING:
    from pageownerfs.sources.base import Source

_log = logging.getLogger(__name__)


class PageOwnerOnView:
    """
    The file ``page_owner_on``: reads ``0`` or ``1`` and a newline; mode 0600.

    Writing takes the kernel's booleans (1, y, on ...). True starts tracking, or changes nothing.
    False while tracking is on: EPERM, with a line in the log. Anything else: EINVAL.
    """

    mode = 0o600

    def __init__(self, source: Source) -> None:
        """Show and switch the tracking of ``source``."""
        self._source = source

    def absent(self) -> str | None:
        """Tell whether the source can be switched at all."""
        return self._source.lacks("switch")

    def size(self) -> int:
        """Length of the text, always 2."""
        return len(self._text())

    def open(self) -> TextFile:
        """Open it."""
        return TextFile(self._text, self._store)

    def _text(self) -> bytes:
        return b"1\n" if self._source.page_owner_on else b"0\n"

    def _store(self, data: bytes) -> None:
        try:
            wanted = kstrtobool(data.decode("ascii", "replace"))
        except ValueError as error:
            raise ViewError(errno.EINVAL) from error
        if wanted:
            self._enable()
        elif self._source.page_owner_on:
            _log.warning(
                "page_owner_on: tracking can't be switched off while it is mounted; "
                "unmount, and mount without page_owner=on"
            )
            raise ViewError(errno.EPERM)

    def _enable(self) -> None:
        try:
            self._source.enable_page_owner()
        except OSError as error:
            _log.error("page_owner_on: tracking stays off: %s", error.strerror or error)
            raise ViewError(error.errno or errno.EIO, error.strerror) from error
        except PageOwnerError as error:
            _log.error("page_owner_on: tracking stays off: %s", error)
            raise ViewError(errno.EOPNOTSUPP) from error
