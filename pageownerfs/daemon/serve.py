"""Serve one mount from start to end, in the daemon's process."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from pageownerfs import _native
from pageownerfs.client import XATTR
from pageownerfs.errors import MountError
from pageownerfs.fs import FileSystem, Session
from pageownerfs.sources.pid_ns import pid_namespace
from pageownerfs.text.progress import ProgressBar, no_progress
from pageownerfs.views import make_tree

from .mounts import mount_points_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from pageownerfs.mm.formats import Format
    from pageownerfs.sources.base import MountSource, SourceKind, SourceOptions
    from pageownerfs.views import Tree

_log = logging.getLogger(__name__)

_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
# Signals for the main thread when libfuse has ended, and for libfuse's thread to wake and end it.
_ENDED: Final = signal.SIGUSR1
_WAKE: Final = signal.SIGUSR2
_PR_SET_PDEATHSIG: Final = 1
_WAKE_SEC: Final = 0.02
_PROGRESS_COLUMNS: Final = 78


class MountOptions(NamedTuple):
    """What to mount, where, and how."""

    kind: SourceKind[Any]
    """Kind of the source to mount."""
    source_options: SourceOptions
    """Options of the source."""
    mountpoint: str
    """Directory; run() makes it absolute."""
    version: str
    """Version of this package, for status."""
    foreground: bool = False
    """Stay in the foreground, and log to standard error."""
    kernel_abi: bool = False
    """Make page_owner behave exactly as the kernel's, not as an ordinary file."""
    fuse: tuple[str, ...] = ()
    """Options for libfuse: allow_other, allow_root, ro."""
    output_format: Format | None = None
    """Format of records; None for that of a dump, or of Linux 6.12."""
    snapshot_bytes: int = 0
    """Limit of the memory for all snapshots."""
    progress: bool = False
    """Show the progress of reading a file."""


class _Lines:
    """A stand-in for tqdm's terminal: it receives a line after each carriage return."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show

    def write(self, text: str, /) -> None:
        line = text.replace("\r", "").strip()
        if line:
            self._show(line)

    def flush(self) -> None:
        pass


def _stop_reading(number: int, frame: object) -> NoReturn:
    del frame
    raise MountError(f"received {signal.Signals(number).name} while reading the file")


def _end_with_parent(number: int) -> None:
    # End with the process that waits for the mount. 0: stay, whatever happens to it.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


class Daemon:
    """
    A source, its views and their mount.

    The main thread only waits for signals, which are blocked in all other threads. So no signal
    can end the process between two steps and leave a mount or a file behind.
    """

    def __init__(
        self,
        options: MountOptions,
        log: str,
        on_ready: Callable[[], None],
        show_progress: Callable[[str], None],
    ) -> None:
        """
        Prepare to serve.

        :param log: destination of the log, for status
        :param on_ready: called once, from another thread, when the mount is ready
        :param show_progress: shows a line in place of the previous one
        """
        self._options = options
        self._log = log
        self._on_ready = on_ready
        self._show_progress = show_progress
        self._started_nsec = time.monotonic_ns()
        self._ended = threading.Event()
        self._may_exit = threading.Event()
        self._failure: BaseException | None = None

    def serve(self, binding: ModuleType) -> None:
        """
        Mount, serve until the file system is unmounted or a signal arrives, and clean up.

        :raises PageOwnerError: mounting failed
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, (*_STOP_SIGNALS, _ENDED))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(_WAKE, lambda *_: None)
        options = self._options
        with self._make_source() as source:
            tree = make_tree(
                source,
                kernel_abi=options.kernel_abi,
                output_format=options.output_format,
                snapshot_bytes=options.snapshot_bytes,
            )
            filesystem = FileSystem(
                tree,
                {XATTR: lambda: self._describe(source.describe(), tree)},
                kernel_abi=options.kernel_abi,
                on_init=self._on_ready,
            )
            self._serve(Session(binding, filesystem))
        if self._failure is not None:
            raise self._failure
        _log.info("unmounted %s", options.mountpoint)

    def _make_source(self) -> MountSource:
        options = self._options
        kind = options.kind
        if not kind.takes_file:
            return kind.make(options.source_options, no_progress)
        # Reading may take long, or wait for a pipe. Nothing exists yet that must be cleaned up, so
        # signals may end it.
        old = {number: signal.signal(number, _stop_reading) for number in _STOP_SIGNALS}
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
        if not options.foreground:
            _end_with_parent(signal.SIGTERM)
        bar = ProgressBar("reading", _Lines(self._show_progress), columns=_PROGRESS_COLUMNS)
        try:
            progress = bar.show if options.progress else no_progress
            return kind.make(options.source_options, progress)
        finally:
            _end_with_parent(0)
            signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
            for number, handler in old.items():
                signal.signal(number, handler)
            bar.close()

    def _serve(self, session: Session) -> None:
        # libfuse runs in its own thread, so that the main thread can wait for signals.
        thread = threading.Thread(
            target=self._run, args=(session, threading.main_thread().ident), name="fuse"
        )
        thread.start()
        while not self._ended.is_set():
            received = signal.sigwait((*_STOP_SIGNALS, _ENDED))
            if received in _STOP_SIGNALS:
                _log.info("received %s; unmounting", signal.Signals(received).name)
                self._stop(session, thread)
        self._may_exit.set()
        thread.join()

    def _run(self, session: Session, main_thread: int) -> None:
        options = self._options
        try:
            session.run(options.kind.name, os.fsencode(options.mountpoint), options.fuse)
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            self._failure = error
        self._ended.set()
        signal.pthread_kill(main_thread, _ENDED)
        # Stay until no other thread can send a signal to this one.
        self._may_exit.wait()

    def _stop(self, session: Session, thread: threading.Thread) -> None:
        # Repeat, because a thread that is about to fall asleep misses the signal.
        while not self._ended.is_set():
            session.stop()
            if thread.ident is not None:
                signal.pthread_kill(thread.ident, _WAKE)
            self._ended.wait(_WAKE_SEC)

    def _describe(self, source: dict[str, Any], tree: Tree) -> bytes:
        options = self._options
        general = {
            "version": options.version,
            "abi": _native.ABI_VERSION,
            "source": options.kind.name,
            "pid": os.getpid(),
            "pid_ns": pid_namespace().inode,
            "uid": os.getuid(),
            "mount_points": mount_points_of(options.mountpoint),
            "uptime_nsec": time.monotonic_ns() - self._started_nsec,
            "kernel_abi": options.kernel_abi,
            "format": options.output_format.name if options.output_format else None,
            "absent": dict(tree.all_absent()),
            "log": self._log,
        }
        return json.dumps(general | source).encode()
