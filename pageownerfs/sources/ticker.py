"""Call a source's housekeeping function from a thread."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)

_TICK_SEC: Final = 0.5


class Ticker:
    """Call a function twice a second between start() and stop()."""

    def __init__(self, name: str, tick: Callable[[], None]) -> None:
        """
        Prepare the ticker; start() starts the thread, because a daemon forks first.

        :param name: name of the thread
        :param tick: function to call; exceptions are logged, and the calls continue
        """
        self._tick = tick
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and wait for it; no-op if it was not started."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(_TICK_SEC):
            try:
                self._tick()
            except Exception:  # noqa: BLE001 - see __init__
                _log.exception("the source's thread %s failed", self._thread.name)
