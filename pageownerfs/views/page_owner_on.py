"""
``page_owner_on``: whether owners are tracked, and a switch.

The kernel takes page_owner=on only at boot. Here, writing a true value starts tracking while
processes run, and a false one stops it, if the source can. The records are lost then; snapshots
stay.
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
    from collections.abc import Callable

    from pageownerfs.sources.base import Source

_log = logging.getLogger(__name__)


class PageOwnerOnView:
    """
    The file ``page_owner_on``: contains ``0`` or ``1`` and a newline; mode 0600.

    A write takes the kernel's booleans (1, y, on ...). True starts tracking unless it is on, false
    stops it unless it is off. Other text fails with EINVAL.
    """

    mode = 0o600

    def __init__(self, source: Source, forget: Callable[[], None]) -> None:
        """
        Show and switch the tracking of ``source``.

        :param forget: frees what other views have made of the table; called after switching off
        """
        self._source = source
        self._forget = forget

    def absent(self) -> str | None:
        """Return why the file is absent: the source can't be switched on."""
        return self._source.lacks("switch")

    def size(self) -> int:
        """Return the length of the text, which is always 2."""
        return len(self._text())

    def open(self) -> TextFile:
        """Open the file."""
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
        else:
            self._disable()

    def _enable(self) -> None:
        try:
            self._source.enable_page_owner()
        except OSError as error:
            _log.error("page_owner_on: tracking stays off: %s", error.strerror or error)
            raise ViewError(error.errno or errno.EIO, error.strerror) from error
        except PageOwnerError as error:
            _log.error("page_owner_on: tracking stays off: %s", error)
            raise ViewError(errno.EOPNOTSUPP) from error

    def _disable(self) -> None:
        try:
            self._source.disable_page_owner()
        except OSError as error:
            _log.error("page_owner_on: tracking stays on: %s", error.strerror or error)
            raise ViewError(error.errno or errno.EIO, error.strerror) from error
        self._forget()
