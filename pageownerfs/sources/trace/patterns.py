"""
Regular expressions for the lines of a recorded trace, by form.

ftrace and trace-cmd differ in blanks, and in how a stack begins. events.py unpacks the groups, so
their order matters.
"""

from __future__ import annotations

import re
from typing import Final

# A comm may contain anything, even text that looks like the fields after it, but it is too short
# to contain all of them: the first place where the whole rest matches is the right one.
_TASK: Final = (
    rb"^(?P<task>(?P<comm>[^\n]{0,80}?)-(?P<pid>\d{1,10}) +"
    rb"(?:\( *(?P<tgid>\d{1,10}|-+)\) +)?\[?(?P<cpu>\d{1,5})(?:\]|(?=[a-zA-Z.][^\s:]{4,8} )))"
)
# Flags such as irqs-off and need-resched stand between CPU and time, unless switched off;
# "trace-cmd report -l" prints them right after the CPU.
_TIME: Final = rb" *(?:[^\s:\[\]]{1,9} +)?(?P<sec>\d{1,19})(?:\.(?P<frac>\d{1,9}))?: +"
_PERF_TASK: Final = (
    rb"^(?!\t)(?P<comm>[^\n]{0,40}?) +(?P<pid>-?\d{1,10})(?:/(?P<tid>-?\d{1,10}))? +"
    rb"(?:\[\d+\] +)?(?P<sec>\d{1,10})\.(?P<frac>\d{1,9}): +(?:\d+ +)?"
)
_PAGE_EVENT: Final = (
    rb"(?:kmem:)?mm_page_(?P<what>alloc|free|free_batched): +page=(?P<page>\S+)"
    rb" pfn=(?P<pfn>0x[0-9a-f]{1,16}|0|[1-9]\d{0,19}) order=(?P<order>\d{1,2})"
    rb"(?: migratetype=(?P<mt>\d{1,2}) gfp_flags=(?P<gfp>\S*))?[ \t\r]*\n"
)
# Function names have no colon, but every line with a time has one. With the format of newer
# kernels, trace-cmd prints the first frame on the line of the event.
_STACK: Final = (
    rb"(?:(?:kernel_stack: +)?<stack trace ?>[ \t\r]*\n|kernel_stack: +(?=\t?=>))"
    rb"(?P<%s>(?:[^:]*\n)?)"
)
_CLAIM: Final = rb"^[^\n]*\bmm_page_(?:alloc|free): (?P<claim>)[^\n]*\n"

FTRACE: Final = re.compile(
    _TASK + _TIME + rb"(?:" + _PAGE_EVENT
    # Its stack is a separate event, usually the next one in the text.
    + rb"(?:(?P=task)" + re.sub(rb"\?P<\w+>", rb"?:", _TIME) + _STACK % b"block" + rb")?"
    + rb"|" + _STACK % b"late" + rb")",
    re.MULTILINE,
)  # fmt: skip
FTRACE_REST: Final = re.compile(
    _TASK + _TIME + rb"(?P<rest>[^\n]*)\n"
    rb"|^CPU:(?P<lost_cpu>\d{1,5}) \[(?:LOST )?(?P<lost>\d{1,19})? ?EVENTS(?: DROPPED)?\]"
    rb"|^# entries-in-buffer/entries-written: (?P<kept>\d{1,19})/(?P<written>\d{1,19})"
    rb"|" + _CLAIM,
    re.MULTILINE,
)
PERF: Final = re.compile(_PERF_TASK + _PAGE_EVENT, re.MULTILINE)
PERF_REST: Final = re.compile(
    _PERF_TASK + rb"(?P<rest>[^\n]*)\n"
    rb"|^[^\n]*\b(?:PERF_RECORD_LOST(?:_SAMPLES)? lost |LOST )(?P<lost>\d{1,19})\b"
    rb"|" + _CLAIM,
    re.MULTILINE,
)
PERF_LOST: Final = re.compile(
    rb"PERF_RECORD_LOST(?:_SAMPLES)? lost (\d{1,19})|LOST (\d{1,19}) events"
)
PAGE_EVENT_NAME: Final = re.compile(rb"(?:kmem:)?mm_page_(alloc|free):")
FIELD: Final = re.compile(rb"\b(page|pfn|order|migratetype|gfp_flags)=(\S+)")
NUMBER: Final = re.compile(rb"0x[0-9a-f]{1,16}|0|[1-9][0-9]{0,19}")
FTRACE_TEXT: Final = re.compile(_TASK + _TIME + rb"\S", re.MULTILINE)
PERF_TEXT: Final = re.compile(_PERF_TASK + rb"[a-zA-Z][^\s:]*:", re.MULTILINE)
FTRACE_HEADER: Final = re.compile(
    rb"^(?:# tracer: \S|cpus=\d+$|CPU \d+ is empty$|version = \d+$)", re.MULTILINE
)
PERF_HEADER: Final = re.compile(rb"^# (?:captured on|cmdline) +: ", re.MULTILINE)
STACK_EVENT: Final = re.compile(rb"<stack trace|kernel_stack:")
