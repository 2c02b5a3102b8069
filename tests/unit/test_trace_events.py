"""Events of a trace, in each form of its text: complete, truncated and damaged."""

from __future__ import annotations

import pytest
from data import TRACE_SAMPLE
from trace_text import Parsed, parse

from pageownerfs.errors import PageOwnerError
from pageownerfs.sources.trace.events import Counts, Event

FTRACE = b"""\
# tracer: nop
#
# entries-in-buffer/entries-written: 9/9   #P:2
#
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
#              | |         |   |||||     |         |
            init-1       [000] .....    13.433116: mm_page_alloc: page=00000000316a793f pfn=0x1ab68 order=0 migratetype=0 gfp_flags=GFP_KERNEL_ACCOUNT|__GFP_ZERO
            init-1       [000] .....    13.433475: <stack trace>
 => trace_event_raw_event_mm_page_alloc
 => __alloc_pages_noprof
 => pgd_alloc
       a b-c (d)-77      [001] d..2.    13.433500: mm_page_alloc: page=00000000316a7940 pfn=0x1ab70 order=3 migratetype=1 gfp_flags=GFP_HIGHUSER_MOVABLE
            init-1       [000] .....    13.433600: mm_page_free: page=00000000316a793f pfn=0x1ab68 order=0
            init-1       [000] .....    13.433601: <stack trace>
 => trace_event_raw_event_mm_page_free
 => free_unref_folios
            init-1       [000] .....    13.433603: mm_page_free_batched: page=00000000316a793f pfn=0x1ab68 order=0
            init-1       [000] .....    13.433604: <stack trace>
 => trace_event_raw_event_mm_page_free_batched
 => free_unref_folios
            init-1       [000] .....    13.433700: sched_switch: prev_comm=init prev_pid=1
"""  # noqa: E501 - as it is
# As trace-cmd 3.1 printed it on 6.12, with an instance and without.
TRACE_CMD = b"""\
version = 6
CPU 0 is empty
cpus=2
tcinst:            sleep-84    [000]     4.018129: mm_page_alloc:        page=0xffffea0000010fe9 pfn=0x10fe9 order=0 migratetype=0 gfp_flags=GFP_KERNEL_ACCOUNT|__GFP_ZERO
tcinst:            sleep-84    [000]     4.018134: kernel_stack:         \t=> trace_event_raw_event_mm_page_alloc
\t=> __traceiter_mm_page_alloc
\t=> __alloc_pages_noprof
\t=> pgd_alloc
            bash-1234  [001]     4.018140: mm_page_alloc:        page=0x1ab68 pfn=109416 order=0 migratetype=0 gfp_flags=GFP_KERNEL
            bash-1234  [001]     4.018141: kernel_stack:         <stack trace >
=> __alloc_pages (ffffffff8115f4c1)
=> new_slab (ffffffff8115f5d2)
CPU:1 [EVENTS DROPPED]
            bash-1234  [001]     4.018150: mm_page_free:         page=0x1ab68 pfn=109416 order=0
            bash-1234  [001]     4.018151: kernel_stack:         <stack trace>
=> free_unref_page (ffffffff8115f4c1)
"""  # noqa: E501
PERF = b"""\
bash  1234 [001]    13.433116: kmem:mm_page_alloc: page=0x105aee pfn=0x105aee order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
\tffffffff81204b42 __traceiter_mm_page_alloc+0x42 ([kernel.kallsyms])
\tffffffff8161f78b __alloc_pages_noprof+0x26b ([kernel.kallsyms])
\tffffffffc0123456 ext4_thing+0x6 ([ext4])
\tffffffffc0999999 [unknown] ([unknown])
\t           f838f __GI___libc_write+0x4f (/usr/lib/x86_64-linux-gnu/libc.so.6)
\t           9dd38 std::vector<int, std::allocator<int> >::push(int) const: x+0x1 (/usr/bin/a (b))
\t           9dd39 main+0x1 (/usr/bin/a (b))

my app 12  1234/1235 [000]    13.433200123:          1 kmem:mm_page_free: page=0x105aee pfn=0x105aee order=0
\tffffffff8161f78b free_unref_page+0x26b (/usr/lib/debug/boot/vmlinux)

swapper     0 [001]    13.433300: sched:sched_switch: prev_comm=swapper/1
swapper     0 [001]    13.433400: PERF_RECORD_LOST lost 12
perf    77 [001]    13.433500: kmem:mm_page_alloc: page=0x1 pfn=0x1 order=0 migratetype=0 gfp_flags=none
"""  # noqa: E501
FORMS = pytest.mark.parametrize("text", [FTRACE, TRACE_CMD, PERF], ids=["ftrace", "cmd", "perf"])


def line(
    comm: bytes = b"            bash",
    pid: int = 5,
    cpu: bytes = b"[000]",
    time: bytes = b"1.000001",
    what: bytes = b"mm_page_alloc: page=0000000012345678 pfn=0x10 order=0 migratetype=0"
    b" gfp_flags=GFP_KERNEL",
) -> bytes:
    """Make a line of ftrace."""
    return b"%s-%-7d %s ..... %s: %s\n" % (comm, pid, cpu, time, what)


def test_ftrace() -> None:
    """Each field of each event is read, with its stack; a batched free counts once."""
    events, counts = parse(FTRACE)
    assert events == [
        Event(
            is_alloc=True,
            pfn=0x1AB68,
            order=0,
            gfp_mask=0x400DC0,
            migratetype=0,
            pid=1,
            tgid=1,
            comm=b"init",
            ts_nsec=13_433_116_000,
            stack=b" __alloc_pages_noprof\n pgd_alloc\n",
        ),
        Event(
            is_alloc=True,
            pfn=0x1AB70,
            order=3,
            gfp_mask=0x100CCA,
            migratetype=1,
            pid=77,
            tgid=77,
            comm=b"a b-c (d)",
            ts_nsec=13_433_500_000,
            stack=b"",
        ),
        Event(
            is_alloc=False,
            pfn=0x1AB68,
            order=0,
            gfp_mask=0,
            migratetype=0,
            pid=1,
            tgid=1,
            comm=b"init",
            ts_nsec=13_433_600_000,
            stack=b" free_unref_folios\n",
        ),
    ]
    assert counts == Counts(other_events=2, nr_stacks=2)


def test_trace_cmd() -> None:
    """Old and new forms of stacks, a decimal PFN, and an instance before the task are read."""
    events, counts = parse(TRACE_CMD)
    assert [(e.comm, e.pid, e.pfn, e.is_alloc, e.stack) for e in events] == [
        (b"sleep", 84, 0x10FE9, True, b" __alloc_pages_noprof\n pgd_alloc\n"),
        (b"bash", 1234, 109416, True, b" __alloc_pages\n new_slab\n"),
        (b"bash", 1234, 109416, False, b" free_unref_page\n"),
    ]
    assert counts == Counts(lost_events=1, nr_stacks=3)


def test_perf() -> None:
    """Frames of the kernel only, pid and thread, periods, nanoseconds and lost events are read."""
    events, counts = parse(PERF)
    assert [(e.comm, e.tgid, e.pid, e.pfn, e.is_alloc, e.ts_nsec, e.stack) for e in events] == [
        (
            b"bash",
            1234,
            1234,
            0x105AEE,
            True,
            13_433_116_000,
            b" __alloc_pages_noprof\n ext4_thing [ext4]\n 0xffffffffc0999999\n",
        ),
        (b"my app 12", 1234, 1235, 0x105AEE, False, 13_433_200_123, b" free_unref_page\n"),
        (b"perf", 77, 77, 1, True, 13_433_500_000, b""),
    ]
    assert [e.gfp_mask for e in events] == [0x500CC2, 0, 0]
    assert counts == Counts(other_events=1, lost_events=12, nr_stacks=2)


@FORMS
@pytest.mark.parametrize("chunk_bytes", [1, 7, 64, 1000])
def test_chunks(text: bytes, chunk_bytes: int) -> None:
    """The end of a chunk makes no difference."""
    assert parse(text, chunk_bytes=chunk_bytes) == parse(text)


@FORMS
def test_cut_anywhere(text: bytes) -> None:
    """A text cut at any byte gives the events before it, counts one cut, and no damage."""
    whole = parse(text)
    recognised = 0
    for nr_bytes in range(len(text) + 1):
        cut = text[:nr_bytes]
        try:
            events, counts = parse(cut)
        except PageOwnerError:
            assert not recognised, "the shorter text was a trace, but this one is not"
            continue
        recognised += 1
        assert counts.damaged_lines == 0
        assert counts.cut_events == (not cut.endswith(b"\n"))
        assert 0 <= counts.other_events <= whole.counts.other_events
        assert counts.lost_events <= whole.counts.lost_events
        assert len(events) >= cut.count(b"\n", 0, cut.rfind(b"\n") + 1) // 20
        for event, expected in zip(events, whole.events, strict=False):
            assert expected.stack.startswith(event.stack)
            event.stack = expected.stack
            assert event == expected
    assert recognised > len(text) * 0.7
    assert len(events) == len(whole.events)


def test_cut_stack_drops_the_event() -> None:
    """If the text ends inside a frame, the event is incomplete."""
    frame = FTRACE.index(b" => pgd_alloc") + 8
    events, counts = parse(FTRACE[:frame])
    assert (events, counts) == ([], Counts(cut_events=1))
    for frame in (b"ext4_thing", b"main+"):
        events, counts = parse(PERF[: PERF.index(frame)])
        assert (events, counts) == ([], Counts(cut_events=1))


@pytest.mark.parametrize(
    "comm",
    [
        b"",
        b"-",
        b"a b",
        b"a-1 [000] 1.2: ",
        b"a-1 [000] .....",
        b"q: [1] -7 [0]",
        b"(ab) ( 12) [1]",
        b"a) b), ts 5 ns",
        b"=> f+0x1/0x2",
        b"mm_page_free: x",
        b"<stack trace>",
        b"x\ny\tz",
        b"\n\n",
        b"CPU:1 [LOST 1",
        b"\xff\xfe",
        b"kworker/0:1-ev",
    ],
)
@pytest.mark.parametrize("tgid", [b"", b"(     12) ", b"(-------) "])
@pytest.mark.parametrize("flags", [b"d..2. ", b""])
def test_hostile_comms(comm: bytes, tgid: bytes, flags: bytes) -> None:
    """Whatever a comm contains, it and the rest are read correctly, in each form of a line."""
    head = b"%16s-%-7d %s[001] %s   1.000001" % (comm, 77, tgid, flags)
    text = b"# tracer: nop\n" + line(time=b"0.5") + (
        head + b": mm_page_alloc: page=00000000316a793f pfn=0x1ab68 order=0 migratetype=0"
        b" gfp_flags=GFP_KERNEL\n" + head + b": <stack trace>\n => alloc_it\n"
    ) * 2 + line()  # fmt: skip
    events, counts = parse(text)
    assert counts == Counts(nr_stacks=1)
    assert len(events) == 4
    for event in events[1:3]:
        assert event.comm == comm
        assert (event.pid, event.tgid) == (77, 12 if b"12" in tgid else 77)
        assert (event.pfn, event.stack) == (0x1AB68, b" alloc_it\n")
    assert parse(text, chunk_bytes=3) == (events, counts)


def test_first_line_looks_like_perf() -> None:
    """The first comm does not determine the form."""
    events, _ = parse(line(comm=b"%16s" % b"5 [0] 1.2: x:y"))
    assert [e.comm for e in events] == [b"5 [0] 1.2: x:y"]


@pytest.mark.parametrize("comm", [b"", b"a b", b"a-1 [000] 1.2:", b"5 [000] 1.2: x", b"q 7/8"])
def test_hostile_comms_of_perf(comm: bytes) -> None:
    """The same for perf; blanks at the end of a comm are lost."""
    text = b"".join(
        b"%s  77/78 [001] 1.5: kmem:mm_page_free: page=0x1 pfn=0x%d order=0\n\t1 f ([kernel])\n\n"
        % (comm, pfn)
        for pfn in (1, 2)
    )
    events, counts = parse(text)
    assert [(e.comm, e.pid, e.tgid, e.pfn, e.stack) for e in events] == [
        (comm, 78, 77, 1, b" f\n"),
        (comm, 78, 77, 2, b" f\n"),
    ]
    assert counts == Counts(nr_stacks=1)


def test_stacks_of_several_cpus() -> None:
    """A stack belongs to the last event of its task and CPU, wherever it is in the text."""

    def stack(name: bytes, cpu: bytes, pid: int) -> bytes:
        return line(cpu=cpu, pid=pid, what=b"<stack trace>") + b" => %s\n" % name

    text = b"".join(
        (
            line(cpu=b"[000]", pid=1),
            line(cpu=b"[001]", pid=2),
            line(cpu=b"[001]", pid=2, what=b"irq_handler_entry: irq=1 name=x"),
            stack(b"of_irq", b"[001]", 2),
            stack(b"of_nobody", b"[000]", 7),
            line(cpu=b"[000]", pid=1, what=b"mm_page_free: page=01 pfn=0x30 order=0"),
            stack(b"of_interrupt", b"[000]", 1),
            stack(b"of_first", b"[000]", 1),
            line(cpu=b"[001]", pid=2, what=b"<user stack trace>") + b" =>  <00007f0000000000>\n",
            stack(b"of_second", b"[001]", 2),
            stack(b"of_nobody", b"[001]", 2),
            line(cpu=b"[001]", pid=3),
            line(cpu=b"[001]", pid=4),
            stack(b"of_third", b"[001]", 3),
            stack(b"of_nobody", b"[001]", 4),  # the event of pid 4 is over
            line(cpu=b"[001]", pid=3),
            b"CPU:1 [LOST 7 EVENTS]\n",
            stack(b"of_a_lost_one", b"[001]", 3),
        )
    )
    events, counts = parse(text)
    assert [e.stack for e in events] == [
        b" of_first\n",
        b" of_second\n",
        b" of_interrupt\n",
        b" of_third\n",
        b"",
        b"",
    ]
    assert counts == Counts(other_events=1, lost_events=7, nr_stacks=4)


@pytest.mark.parametrize(
    ("marker", "lost"),
    [
        (b"CPU:1 [LOST 4142 EVENTS]\n", 4142),
        (b"CPU:1 [LOST EVENTS]\n", 1),
        (b"CPU:12 [123 EVENTS DROPPED]\n", 123),
        (b"CPU:0 [EVENTS DROPPED]\n", 1),
        (b"# entries-in-buffer/entries-written: 2466/9999   #P:2\n", 7533),
        (b"# entries-in-buffer/entries-written: 2466/2466   #P:2\n", 0),
        (b"CPU:1 [LOST %s EVENTS]\n" % (b"9" * 5000), 0),
        (b"##### CPU 1 buffer started ####\n", 0),
    ],
)
def test_lost_events(marker: bytes, lost: int) -> None:
    """A tracer's reports of losses are counted, also after a stack or an event."""
    stack = line(what=b"<stack trace>") + b" => f\n"
    for text in (line() + marker + line(), line() + stack + marker + line() + stack):
        events, counts = parse(text)
        assert len(events) == 2
        assert (counts.lost_events, counts.damaged_lines) == (lost, 0)


ALLOC = b"mm_page_alloc: page=%s pfn=%s order=%s migratetype=%s gfp_flags=%s"


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(ALLOC % (b"1", b"0x10000000000000", b"0", b"0", b""), id="pfn 2^52"),
        pytest.param(ALLOC % (b"1", b"0x11", b"1", b"0", b""), id="not aligned"),
        pytest.param(ALLOC % (b"1", b"0x0", b"52", b"0", b""), id="order 52"),
        pytest.param(ALLOC % (b"1", b"0x10", b"-1", b"0", b""), id="negative order"),
        pytest.param(ALLOC % (b"1", b"ab68", b"0", b"0", b""), id="hex without 0x"),
        pytest.param(ALLOC % (b"1", b"0x10", b"0", b"x", b""), id="migratetype"),
        pytest.param(b"mm_page_alloc: page=1 pfn=0x10 order=0", id="no mask"),
        pytest.param(b"mm_page_free: page=1 order=0", id="no pfn"),
        pytest.param(b"mm_page_free: page=1 pfn=0x10", id="no order"),
        pytest.param(b"mm_page_free: ", id="empty"),
        pytest.param(b"mm_page_free: page=1 pfn=0x%s order=0" % (b"f" * 9999), id="endless"),
    ],
)
def test_damage(what: bytes) -> None:
    """A line of one of our events with impossible values is counted and skipped."""
    events, counts = parse(line() + line(what=what) + line())
    assert len(events) == 2
    assert counts == Counts(damaged_lines=1)


def test_damage_of_heads() -> None:
    """So is a line without a task before the event, or with an impossible one."""
    text = line() + b"..... 1.0: mm_page_free: page=1 pfn=0x10 order=0\n" + line(pid=2**31)
    events, counts = parse(text)
    assert len(events) == 1
    assert counts == Counts(damaged_lines=2)


@pytest.mark.parametrize(
    ("page", "pfn"), [(b"(null)", b"0"), (b"0000000000000000", b"0x0"), (b"0x0", b"0x0")]
)
def test_failed_allocs(page: bytes, pfn: bytes) -> None:
    """An allocation that failed is not counted; a page with PFN 0 is."""
    failed = line(what=ALLOC % (page, pfn, b"0", b"0", b"GFP_KERNEL"))
    first = line(what=ALLOC % (b"00000000316a793f", b"0x0", b"0", b"0", b"GFP_KERNEL"))
    events, counts = parse(failed + first)
    assert [e.pfn for e in events] == [0]
    assert counts == Counts(failed_allocs=1)


@pytest.mark.parametrize(
    ("gfp_flags", "mask", "unknown"),
    [
        (b"none", 0, set()),
        (b"GFP_KERNEL|0x1000000", 0x1000CC0, set()),
        (b"0xcc0", 0xCC0, set()),
        (b"3264", 0xCC0, set()),
        (b"GFP_KERNEL|__GFP_NEW|GFP_OTHER|\xff", 0xCC0, {"__GFP_NEW", "GFP_OTHER", "\\xff"}),
        (b"0x100000cc0", 0, {"0x100000cc0"}),
    ],
)
def test_gfp_flags(gfp_flags: bytes, mask: int, unknown: set[str]) -> None:
    """Names and numbers make the mask, and unknown names are remembered once."""
    what = ALLOC % (b"1", b"0x10", b"0", b"0", gfp_flags)
    events, counts = parse(line(what=what) * 2)
    assert [e.gfp_mask for e in events] == [mask, mask]
    assert counts.unknown_gfp_names == unknown


def test_fields_in_another_order() -> None:
    """trace-cmd prints the plain fields if it cannot evaluate the format."""
    body = b"mm_page_alloc:        [FAILED TO PARSE] pfn=%s order=1 gfp_flags=0xcc0 migratetype=2"
    text = b"".join(line(what=body % pfn) for pfn in (b"0x20", b"34", b"0xffffffffffffffff"))
    events, counts = parse(text)
    assert [(e.pfn, e.order, e.gfp_mask, e.migratetype) for e in events] == [
        (0x20, 1, 0xCC0, 2),
        (34, 1, 0xCC0, 2),
    ]
    assert counts == Counts(failed_allocs=1)


@pytest.mark.parametrize(
    ("time", "nsec"),
    [
        (b"13.433116", 13_433_116_000),
        (b"13.433116123", 13_433_116_123),
        (b"0.5", 500_000_000),
        (b"123456789", 123_456_789),
    ],
)
def test_times(time: bytes, nsec: int) -> None:
    """Times of any precision are read; a number without a point is in nanoseconds."""
    events, _ = parse(line(time=time))
    assert [e.ts_nsec for e in events] == [nsec]


def test_latency_format() -> None:
    """``trace-cmd report -l`` has the flags right after the CPU."""
    text = b"   sleep-84      0d..2.     4.018128645: mm_page_free:  page=0x1 pfn=0x10 order=0\n"
    events, _ = parse(b"cpus=2\n" + text)
    assert [(e.comm, e.pid, e.ts_nsec) for e in events] == [(b"sleep", 84, 4_018_128_645)]


def test_until() -> None:
    """Later events are neither returned nor counted, whatever the order in the text."""
    text = b"".join(
        (
            line(time=b"1.0"),
            line(time=b"3.0"),
            line(time=b"2.0"),
            line(time=b"2.000001", what=b"sched_switch: x"),
            line(time=b"2.000001", what=b"mm_page_free: x"),
            b"CPU:1 [LOST 7 EVENTS]\n",
            line(time=b"2.1", what=b"<stack trace>") + b" => f\n",
        )
    )
    events, counts = parse(text + b"cut", until_nsec=2_000_000_000)
    assert [e.ts_nsec for e in events] == [10**9, 2 * 10**9]
    assert counts == Counts()
    assert parse(text + b"cut").counts == Counts(1, 7, 1, 1)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"# tracer: nop\n#\n", id="ftrace"),
        pytest.param(b"cpus=2\nCPU 0 is empty\nCPU 1 is empty\n", id="trace-cmd"),
        pytest.param(b"# ========\n# captured on    : Fri\n# ========\n#\n", id="perf"),
    ],
)
def test_empty_recording(text: bytes) -> None:
    """A header alone is a trace, too."""
    assert parse(text) == Parsed([], Counts())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param(b"", "not a recorded trace", id="empty"),
        pytest.param(b"hello\nworld: 1\n", "not a recorded trace", id="some text"),
        pytest.param(
            b"Page allocated via order 0\n" * 99, "not a recorded trace", id="page_owner"
        ),
        pytest.param(b" " * (2 << 20), "not a recorded trace", id="blanks"),
        pytest.param(b"-1 [" * (1 << 19), "not a recorded trace", id="almost a task"),
        pytest.param(bytes(range(256)) * 9000, "not a recorded trace", id="binary"),
        pytest.param(b"\x17\x08\x44tracing6\0", "trace-cmd report", id="trace.dat"),
        pytest.param(b"PERFILE2\0\0", "perf script", id="perf.data"),
    ],
)
def test_no_recording(text: bytes, complaint: str) -> None:
    """Other text is refused quickly, with one line that says what is expected."""
    with pytest.raises(PageOwnerError, match=complaint) as error:
        parse(text)
    assert str(error.value).startswith("text: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("chunk_bytes", [997, 4096])
def test_sample_in_chunks(chunk_bytes: int) -> None:
    """A recorded trace is read in small chunks."""
    text = TRACE_SAMPLE.read_bytes()
    assert parse(text, chunk_bytes=chunk_bytes) == parse(text)
