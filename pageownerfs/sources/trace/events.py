"""
Parse the events of a recorded trace of the page allocator.

Three forms are recognised by their lines: ftrace's ``trace`` and ``trace_pipe``; ``trace-cmd
report``, which differs only in blanks; and ``perf script``. The text is read in chunks of some
megabytes, and one regular expression matches an event with its stack: a loop over lines would be
several times slower.

kmem:mm_page_free_batched is parsed because it is frequent, but counts as another event. The kernel
emits it for a page of a batch in addition to the page's mm_page_free, and always with order 0.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pageownerfs.errors import PageOwnerError
from pageownerfs.mm.gfp import parse_gfp

from . import patterns
from .stacks import Stacks, ftrace_stack, perf_stack

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterator

    from pageownerfs.text.input import Input

    _Fields = tuple[Any, ...]
    """sec, frac, what, page, pfn, order, migratetype, gfp_flags: bytes, or None."""

_log = logging.getLogger(__name__)

CHUNK_BYTES: Final = 4 << 20
"""Bytes of text to read at a time."""

_RECOGNISE_BYTES: Final = 1 << 20
"""The form of a recording must show within this much text."""
_LINE_LIMIT: Final = 64 << 20
"""Don't wait for the end of more text than this without an event."""
_CACHE_ENTRIES: Final = 1 << 16

_MAX_ORDER: Final = 51
_PFN_LIMIT: Final = 1 << 52
_PID_LIMIT: Final = 1 << 31
_TS_LIMIT: Final = 1 << 64
_FOREVER: Final = 1 << 128
_NO_PFN: Final = (1 << 64) - 1
_BINARY: Final = {b"\x17\x08\x44tracing": "trace-cmd report", b"PERFILE2": "perf script"}
_NULL: Final = frozenset((b"(null)", b"(nil)", b"NULL"))
_COMM_LEN: Final = 16
_NSEC: Final = [10 ** (9 - digits) for digits in range(10)]


@dataclass(slots=True)
class Event:
    """An mm_page_alloc or mm_page_free. Its stack may be set after the event is yielded."""

    is_alloc: bool
    pfn: int
    order: int
    gfp_mask: int
    migratetype: int
    pid: int
    tgid: int
    comm: bytes
    ts_nsec: int
    stack: bytes


@dataclass(slots=True)
class Counts:
    """Counters of other things in the text, up to the requested time."""

    other_events: int = 0
    lost_events: int = 0
    damaged_lines: int = 0
    cut_events: int = 0
    failed_allocs: int = 0
    nr_stacks: int = 0
    unknown_gfp_names: set[str] = field(default_factory=set)


def read_events(
    source: Input,
    counts: Counts,
    until_nsec: int | None = None,
    on_chunk: Callable[[], None] = lambda: None,
    chunk_bytes: int = CHUNK_BYTES,
) -> Iterator[Event]:
    """
    Yield the events of a recording in the order of its text.

    :param source: the text
    :param counts: counters that are kept up to date
    :param until_nsec: leave out later events; None for none
    :param on_chunk: called after the events of each chunk
    :param chunk_bytes: bytes of text to read at a time
    :raises PageOwnerError: the text can't be read, or is not a recording
    """
    text, pos, final = b"", 0, False
    parser: _Parser | None = None
    while not final:
        chunk = _read(source, chunk_bytes)
        final = not chunk
        text += chunk
        if parser is None:
            if form := _recognise(text):
                parser = form(counts, _FOREVER if until_nsec is None else until_nsec)
            elif final or len(text) >= _RECOGNISE_BYTES:
                raise PageOwnerError(_refusal(source.name, text))
            else:
                continue
        end = text.rfind(b"\n") + 1 if final else _whole(text, pos)
        yield from parser.events(text, pos, end, text[end:] if final else b"")
        # A comm that contains a newline begins on the previous line.
        kept = max(0, end - _COMM_LEN - 1)
        text, pos = text[kept:], end - kept
        on_chunk()


def _read(source: Input, nr_bytes: int) -> bytes:
    buffer, filled = bytearray(nr_bytes), 0
    with memoryview(buffer) as view:
        try:
            while filled < nr_bytes and not source.is_cut:
                nr = source.readinto(view[filled:])
                if not nr:
                    break
                filled += nr
        except PageOwnerError as error:
            # Use what could be decompressed, as the start of a recording that was cut.
            if not source.is_cut:
                raise
            _log.warning("%s; the rest is lost", error)
        return bytes(view[:filled])


def _recognise(text: bytes) -> type[_FtraceParser | _PerfParser] | None:
    """Return the parser for a text, by its first event, or else by a header; None: unknown."""
    ftrace = patterns.FTRACE_TEXT.search(text, 0, _RECOGNISE_BYTES)
    end = _RECOGNISE_BYTES if ftrace is None else text.find(b"\n", ftrace.end()) + 1
    perf = patterns.PERF_TEXT.search(text, 0, end or _RECOGNISE_BYTES)
    # A comm may look like the other form's fields, but the true fields end further to the right.
    if perf and (ftrace is None or (perf.start(), -perf.end()) < (ftrace.start(), -ftrace.end())):
        return _PerfParser
    if ftrace:
        return _FtraceParser
    if patterns.FTRACE_HEADER.search(text):
        return _FtraceParser
    return _PerfParser if patterns.PERF_HEADER.search(text) else None


def _refusal(name: str, text: bytes) -> str:
    for magic, command in _BINARY.items():
        if text.startswith(magic):
            return f"{name}: binary recordings are not supported; use the output of {command}"
    return (
        f"{name}: not a recorded trace: expected the text of ftrace's trace or trace_pipe, of "
        "trace-cmd report, or of perf script"
    )


def _whole(text: bytes, pos: int) -> int:
    """
    Return the start of the last line that has a time and is not a stack.

    Everything before that line is complete.

    :return: pos if there is no such line yet
    """
    colon = len(text)
    while (colon := text.rfind(b": ", pos, colon)) >= 0:
        start = text.rfind(b"\n", pos, colon) + 1
        if start == 0:
            break
        end = text.find(b"\n", colon)
        is_stack = patterns.STACK_EVENT.search(text, start, end if end >= 0 else len(text))
        if not is_stack and not text.startswith((b"\t", b" =>", b"=>"), start):
            return start
    return text.rfind(b"\n") + 1 if len(text) - pos > _LINE_LIMIT else pos


class _Parser(ABC):
    """Base class of the parsers: fields of an event, their values, counters."""

    def __init__(self, counts: Counts, until_nsec: int, stacks: Stacks) -> None:
        self._counts = counts
        self._until_nsec = until_nsec
        self._stacks = stacks
        self._is_past = False
        self._gfp_masks: dict[bytes, int] = {}
        self._comms: dict[bytes, bytes] = {}

    @abstractmethod
    def events(self, text: bytes, pos: int, end: int, tail: bytes) -> Iterator[Event]:
        """
        Yield the events of the lines in ``text[pos:end]``.

        :param tail: the last line if it has no newline and the whole text ends with it; else empty
        """

    def _passed(self, sec: bytes, frac: bytes | None) -> int | None:
        """Convert a time to nanoseconds; None if it is after the requested time."""
        ts_nsec = int(sec + frac) * _NSEC[len(frac)] if frac else int(sec)
        self._is_past = ts_nsec > self._until_nsec
        return None if self._is_past else ts_nsec

    def _event(
        self, comm: bytes, pid_text: bytes, tgid_text: bytes | None, fields: _Fields
    ) -> Event | None:
        """Make an event from its fields; None if it is too late, without a page, or damaged."""
        sec, frac, what, page, pfn_text, order_text, migratetype, gfp_flags = fields
        ts_nsec = self._passed(sec, frac)
        if ts_nsec is None:
            return None
        if what == b"free_batched":
            self._counts.other_events += 1
            return None
        pfn, order, pid = int(pfn_text, 0), int(order_text), int(pid_text)
        tgid = int(tgid_text) if tgid_text and tgid_text[0] != 0x2D else pid  # "-----": unknown
        is_alloc = what == b"alloc"
        gfp_mask = 0
        if is_alloc:
            if pfn in {0, _NO_PFN} and _is_null(page, pfn):
                self._counts.failed_allocs += 1
                return None
            gfp_mask = -1 if gfp_flags is None else self._gfp_mask(gfp_flags)
        if (
            gfp_mask < 0
            or order > _MAX_ORDER
            or pfn & ((1 << order) - 1)
            or pfn >= _PFN_LIMIT
            or not 0 <= pid < _PID_LIMIT
            or not 0 <= tgid < _PID_LIMIT
            or ts_nsec >= _TS_LIMIT
        ):
            self._counts.damaged_lines += 1
            return None
        comm = self._comms.get(comm) or self._comm(comm)
        mt = int(migratetype or 0)
        return Event(is_alloc, pfn, order, gfp_mask, mt, pid, tgid, comm, ts_nsec, b"")

    def _comm(self, text: bytes) -> bytes:
        if len(self._comms) >= _CACHE_ENTRIES:
            self._comms.clear()
        comm = text[-_COMM_LEN:].lstrip(b" ")[: _COMM_LEN - 1].replace(b"\0", b"")
        self._comms[text] = comm
        return comm

    def _gfp_mask(self, text: bytes) -> int:
        mask = self._gfp_masks.get(text)
        if mask is None:
            mask = 0
            for name in text.decode(errors="backslashreplace").split("|"):
                try:
                    mask |= parse_gfp(name) if name not in {"", "none"} else 0
                except ValueError:
                    self._counts.unknown_gfp_names.add(name[:64])
            if len(self._gfp_masks) >= _CACHE_ENTRIES:
                self._gfp_masks.clear()
            self._gfp_masks[text] = mask
        return mask

    def _rest_event(self, match: re.Match[bytes], pid: bytes, tgid: bytes | None) -> Event | None:
        """
        Parse a line that has a time but not the usual form of an event.

        :return: an event if the fields are there but in another order, or without page; trace-cmd
            prints such events if it can't evaluate the kernel's format: ``[FAILED TO PARSE]``
        """
        rest, sec, frac = match.group("rest", "sec", "frac")
        body = patterns.PAGE_EVENT_NAME.match(rest)
        if not body:
            if self._passed(sec, frac) is not None:
                self._counts.other_events += 1
            return None
        fields: dict[bytes, bytes] = dict(patterns.FIELD.findall(rest))
        numbers = [fields.get(name, b"") for name in (b"pfn", b"order")]
        mt = fields.get(b"migratetype", b"0")
        if not all(patterns.NUMBER.fullmatch(number) for number in (*numbers, mt)) or len(mt) > 2:
            if self._passed(sec, frac) is not None:
                self._counts.damaged_lines += 1
            return None
        comm = match["comm"]
        order = b"%d" % int(numbers[1], 0)
        page, gfp_flags = fields.get(b"page"), fields.get(b"gfp_flags")
        return self._event(
            comm, pid, tgid, (sec, frac, body[1], page, numbers[0], order, mt, gfp_flags)
        )

    def _end(self, tail: bytes) -> None:
        if tail and not self._is_past:
            self._counts.cut_events += 1
        self._counts.nr_stacks = len(self._stacks)

    def _lose(self, nr_events: int) -> None:
        if not self._is_past:
            self._counts.lost_events += nr_events

    def _claim(self) -> None:
        if not self._is_past:
            self._counts.damaged_lines += 1


def _is_null(page: bytes | None, pfn: int) -> bool:
    if page is None:
        return pfn != 0
    return page in _NULL or not page.removeprefix(b"0x").strip(b"0")


class _FtraceParser(_Parser):
    """Parser for ftrace and trace-cmd, where a stack is a separate event after its event."""

    _NR_CONTEXTS: Final = 4
    """Task, softirq, interrupt and NMI: each may come between an event and its stack."""

    def __init__(self, counts: Counts, until_nsec: int) -> None:
        super().__init__(counts, until_nsec, Stacks(ftrace_stack))
        # CPU -> pid and event of each event still without a stack; None for an irrelevant event.
        self._waiting: dict[bytes, list[tuple[bytes, Event | None]]] = {}

    def events(self, text: bytes, pos: int, end: int, tail: bytes) -> Iterator[Event]:
        in_stack = (b"=>").startswith(tail.lstrip(b" \t")[:2] or b"-")
        for match in patterns.FTRACE.finditer(text, pos, end):
            start = match.start()
            if start > pos:
                yield from self._between(text, pos, start)
            pos = match.end()
            groups: tuple[Any, ...] = match.groups()
            _, comm, pid, tgid, cpu = groups[:5]
            block, late = groups[13:]
            if in_stack and pos == end and (block or late):
                break  # the stack is cut, and so is its event
            if late is not None:
                self._late_stack(cpu, pid, late)
                continue
            if len(comm) < _COMM_LEN:
                comm = _comm_of_lines(text, start, comm)
            event = self._event(comm, pid, tgid, groups[5:13])
            if block is None:
                self._wait(cpu, pid, event)
            elif event:
                event.stack = self._stacks.get(block)
            if event:
                yield event
        if pos < end:
            yield from self._between(text, pos, end)
        self._end(tail)

    def _wait(self, cpu: bytes, pid: bytes, event: Event | None) -> None:
        waiting = self._waiting.setdefault(cpu, [])
        waiting.append((pid, event))
        if len(waiting) > self._NR_CONTEXTS:
            del waiting[0]

    def _late_stack(self, cpu: bytes, pid: bytes, block: bytes) -> None:
        """Set the stack of the last event of its task and CPU; drop the events in between."""
        waiting = self._waiting.get(cpu, [])
        for index in reversed(range(len(waiting))):
            event_pid, event = waiting[index]
            if event_pid == pid:
                if event:
                    event.stack = self._stacks.get(block)
                del waiting[index:]
                return

    def _between(self, text: bytes, pos: int, end: int) -> Iterator[Event]:
        for match in patterns.FTRACE_REST.finditer(text, pos, end):
            cpu, lost_cpu, lost, kept, written, claim = match.group(
                "cpu", "lost_cpu", "lost", "kept", "written", "claim"
            )
            if cpu is not None:
                if match["rest"].startswith((b"<user stack trace", b"user_stack:")):
                    continue
                event = self._rest_event(match, match["pid"], match["tgid"])
                self._wait(cpu, match["pid"], event)
                if event:
                    yield event
            elif lost_cpu is not None:
                self._lose(int(lost or 1))
                # Stacks after lost events may not belong to the events before.
                self._waiting.pop(b"%03d" % int(lost_cpu), None)
            elif kept is not None:
                self._lose(max(0, int(written) - int(kept)))
            elif claim is not None:
                self._claim()


def _comm_of_lines(text: bytes, start: int, comm: bytes) -> bytes:
    """Return a complete comm that contains a newline, by the width of its column."""
    first = start + len(comm) - _COMM_LEN
    if first < 0 or (first and text[first - 1] != 0x0A) or not text.startswith(b" ", first):
        return comm
    whole = text[first : start + len(comm)]
    return comm if whole.lstrip(b" ").startswith(b"=>") else whole


class _PerfParser(_Parser):
    """Parser for perf, where a stack follows its event, and an empty line follows the stack."""

    def __init__(self, counts: Counts, until_nsec: int) -> None:
        super().__init__(counts, until_nsec, Stacks(perf_stack))

    def events(self, text: bytes, pos: int, end: int, tail: bytes) -> Iterator[Event]:
        in_stack = tail.startswith(b"\t")
        while match := patterns.PERF.search(text, pos, end):
            start = match.start()
            if start > pos:
                yield from self._between(text, pos, start)
            pos, block = match.end(), b""
            if text.startswith(b"\t", pos):
                behind = text.find(b"\n\n", pos, end)
                block = text[pos : end if behind < 0 else behind + 1]
                pos = end if behind < 0 else behind + 2
            if in_stack and pos == end:
                break  # as with ftrace
            groups: tuple[Any, ...] = match.groups()
            comm, pid, tid = groups[:3]
            event = self._event(comm, tid or pid, pid if tid else None, groups[3:])
            if event:
                if block:
                    event.stack = self._stacks.get(block)
                yield event
        if pos < end:
            yield from self._between(text, pos, end)
        self._end(tail)

    def _between(self, text: bytes, pos: int, end: int) -> Iterator[Event]:
        for match in patterns.PERF_REST.finditer(text, pos, end):
            rest, lost, claim = match.group("rest", "lost", "claim")
            if rest is not None:
                if record := patterns.PERF_LOST.search(rest):
                    self._lose(int(record[1] or record[2]))
                elif not rest.startswith(b"PERF_RECORD_"):
                    tid, pid = match.group("tid", "pid")
                    if event := self._rest_event(match, tid or pid, pid if tid else None):
                        yield event
            elif lost is not None:
                self._lose(int(lost))
            elif claim is not None:
                self._claim()
