"""A small model of what page_owner_sort must write, based on the kernel's documentation.

It works on records whose fields are known (dumps.py), parses no text and shares no code with the
package. A Choice is a command line; ``expected_output(records, choice)`` is the resulting file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dumps import CMA, OTHERS, SLAB, VMALLOC, Dump, Record

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Sequence

# Key -> (short name, the record's value for it), in the order in which --cull compares.
_KEYS: dict[str, tuple[str, Callable[[Record], Any]]] = {
    "stacktrace": ("st", lambda record: record.stacktrace),
    "pid": ("p", lambda record: record.task.pid),
    "tgid": ("tg", lambda record: record.task.tgid),
    "name": ("n", lambda record: record.task.comm),
    "free": ("f", lambda record: record.free_ts != 0),
    "allocator": ("ator", lambda record: record.allocator),
    "module": ("mod", lambda record: record.stack.module),
    "alloc_ts": ("at", lambda record: record.ts),
    "free_ts": ("ft", lambda record: record.free_ts),
    "txt": ("T", lambda record: record.header(with_ts=False) + record.stacktrace),
    "txt with ts": ("", lambda record: record.header() + record.stacktrace),
}
_CULL_ORDER = ("stacktrace", "pid", "tgid", "name", "free", "allocator", "module")
_LONG = {short: name for name, (short, _) in _KEYS.items()}
_LETTERS = {
    "-a": "alloc_ts",
    "-p": "pid",
    "-P": "tgid",
    "-n": "name",
    "-s": "stacktrace",
    "-M": "module",
    "-r": "free_ts",
}
CULL_KEYS_6_12 = ("stacktrace", "pid", "tgid", "name", "allocator")
LETTERS_6_12 = ("-t", "-m", "-a", "-p", "-P", "-n", "-s")


def long_name(key: str) -> str:
    """Return the long name of a key: ``st`` is ``stacktrace``; a leading sign is dropped."""
    key = key.lstrip("+-")
    return _LONG.get(key, key)


@dataclass(frozen=True)
class Choice:
    """A command line without its operands."""

    letter: str = ""
    """The single-letter sort, such as ``-m``; empty for none."""
    cull: tuple[str, ...] = ()
    """Keys, by either name."""
    sort: tuple[str, ...] = ()
    """Keys, each with or without a sign."""
    pids: tuple[int, ...] | None = None
    tgids: tuple[int, ...] | None = None
    names: tuple[bytes, ...] | None = None
    modules: tuple[bytes, ...] | None = None
    unreleased: bool = False
    extra: tuple[str, ...] = ()
    """More arguments, which the model does not interpret."""

    @property
    def filters(self) -> bool:
        """Return whether the command line may leave records out."""
        chosen = (self.pids, self.tgids, self.names, self.modules)
        return self.unreleased or any(values is not None for values in chosen)

    @property
    def argv(self) -> list[str]:
        """Return the command line."""
        argv = [self.letter] if self.letter else []
        argv += ["--cull=" + ",".join(self.cull)] if self.cull else []
        argv += ["--sort=" + ",".join(self.sort)] if self.sort else []
        for option, numbers in (("--pid", self.pids), ("--tgid", self.tgids)):
            if numbers is not None:
                argv += [option, ",".join(map(str, numbers))]
        for option, values in (("--name", self.names), ("--module", self.modules)):
            argv += [] if values is None else _name_options(option, values)
        return [*argv, *self.extra, *(["-f"] if self.unreleased else [])]

    @property
    def sort_keys(self) -> list[tuple[str, bool]]:
        """Return long names and whether descending; ``times`` and ``pages`` belong to groups."""
        if self.letter in _LETTERS:
            return [(_LETTERS[self.letter], False)]
        if self.letter == "-m":
            return [("pages", True)]
        if self.sort and not self.letter:
            return [(long_name(key), key.startswith("-")) for key in self.sort]
        return [("times", True)]

    @property
    def keeps_ts(self) -> bool:
        """Return whether ts is part of the text: if groups are sorted by a time first."""
        return not self.cull and self.sort_keys[0][0] in {"alloc_ts", "free_ts"}

    def lets_through(self, record: Record) -> bool:
        """Return whether the record counts."""
        checks = (
            (self.pids, record.task.pid),
            (self.tgids, record.task.tgid),
            (self.names, record.task.comm),
            (self.modules, record.stack.module),
        )
        if any(chosen is not None and value not in chosen for chosen, value in checks):
            return False
        return not (self.unreleased and record.free_ts and record.ts < record.free_ts)


def _name_options(option: str, values: Sequence[bytes]) -> list[str]:
    """Return one option with a comma-separated list, or several if a name contains a comma."""
    if any(b"," in value for value in values):
        values = values if len(values) > 1 else [*values, *values]
        return [f"{option}={os.fsdecode(value)}" for value in values]
    return [f"{option}={os.fsdecode(b','.join(values))}"]


@dataclass
class _Group:
    first: Record
    times: int = 0
    pages: int = 0


def _group_by(choice: Choice) -> Callable[[Record], Any]:
    """Return what a group's records have in common; equal groups come in its order."""
    culled = {long_name(key) for key in choice.cull}
    values = [_KEYS[key][1] for key in _CULL_ORDER if key in culled]
    if values:
        return lambda record: [value(record) for value in values]
    return lambda record: record.header(with_ts=choice.keeps_ts) + record.stacktrace


def expected_groups(records: Iterable[Record], choice: Choice) -> list[_Group]:
    """Group the records that count and sort the groups."""
    group_by = _group_by(choice)
    groups: dict[Any, _Group] = {}
    for record in filter(choice.lets_through, records):
        key = group_by(record)
        group = groups.setdefault(tuple(key) if isinstance(key, list) else key, _Group(record))
        group.times += 1
        group.pages += 2**record.order
    ordered = [group for _, group in sorted(groups.items())]
    if choice.sort_keys == [("free_ts", False)]:
        ordered.reverse()
    for key, descending in reversed(choice.sort_keys):
        if key in {"times", "pages"}:
            ordered.sort(key=lambda group: getattr(group, key), reverse=descending)
        else:
            value = _KEYS["txt with ts" if key == "txt" and choice.keeps_ts else key][1]
            ordered.sort(key=lambda group: value(group.first), reverse=descending)
    return ordered


def _allocator_text(record: Record) -> bytes:
    names = ((CMA, b"CMA "), (SLAB, b"SLAB "), (VMALLOC, b"VMALLOC "), (OTHERS, b"OTHERS "))
    return b"allocated by " + b"".join(name for bit, name in names if record.allocator & bit)


def _culled_text(record: Record, choice: Choice) -> bytes:
    """Return the text after the numbers of a culled group: its keys and the filters."""
    culled = {long_name(key) for key in choice.cull}
    selected = {"pid": choice.pids, "tgid": choice.tgids, "name": choice.names}
    selected["module"] = choice.modules
    texts = {
        "pid": b", PID %d" % record.task.pid,
        "tgid": b", TGID %d" % record.task.tgid,
        "name": b", task_comm_name: " + record.task.comm,
        "module": b", module: " + record.stack.module,
        "allocator": b", " + _allocator_text(record),
        "free": b" (RELEASED)" if record.free_ts else b" (UNRELEASED)",
        "stacktrace": b":\n" + record.stacktrace,
    }
    shown = culled | {key for key, values in selected.items() if values is not None}
    return b"".join(text for key, text in texts.items() if key in shown) + b"\n"


def expected_output(records: Iterable[Record], choice: Choice) -> bytes:
    """Return the file that page_owner_sort must write."""
    parts = []
    for group in expected_groups(records, choice):
        parts.append(b"%d times, %d pages" % (group.times, group.pages))
        if choice.cull:
            parts.append(_culled_text(group.first, choice))
            continue
        header = group.first.header(with_ts=choice.keeps_ts)
        parts.append(b", %b:\n" % _allocator_text(group.first))
        parts.append(header + group.first.stacktrace + b"\n")
    return b"".join(parts)


# ---- random command lines ----


def _some(rng: random.Random, items: Iterable[Any], other: Any) -> tuple[Any, ...]:
    """Return some of the items, and perhaps one that is not among them."""
    pool = sorted(set(items))
    chosen = rng.sample(pool, min(len(pool), rng.randint(1, 2)))
    return (*chosen, other) if not chosen or rng.random() < 0.2 else tuple(chosen)


def choose_cull(rng: random.Random, dump: Dump, keys: Sequence[str]) -> tuple[str, ...]:
    """Choose the value of --cull: one to three keys, by either name."""
    told = [key for key in keys if dump.era.tells(key)]
    chosen = rng.sample(told, rng.randint(1, min(3, len(told))))
    return tuple(rng.choice((key, _KEYS[key][0])) for key in chosen)


def choose_sort(rng: random.Random, dump: Dump, keys: Sequence[str]) -> tuple[str, ...]:
    """Choose the value of --sort: one to three keys, with or without a sign."""
    return tuple(rng.choice(("", "+", "-")) + key for key in choose_cull(rng, dump, keys))


def _choose_letter(rng: random.Random, dump: Dump, letters: Sequence[str]) -> str:
    return rng.choice([key for key in letters if dump.era.tells(_LETTERS.get(key, ""))])


def _choose_filters(
    rng: random.Random, dump: Dump, likelihood: float, *, commas: bool
) -> dict[str, Any]:
    tasks = [record.task for record in dump.records]
    filters: dict[str, Any] = {}
    if dump.era.pid and rng.random() < likelihood:
        filters["pids"] = _some(rng, (task.pid for task in tasks), 12345)
    if dump.era.tgid and rng.random() < likelihood:
        filters["tgids"] = _some(rng, (task.tgid for task in tasks), 12345)
    if dump.era.tgid and rng.random() < likelihood:
        names = [task.comm for task in tasks if commas or b"," not in task.comm]
        filters["names"] = _some(rng, names, b"nobody")
    return filters


def choose(rng: random.Random, dump: Dump, *, commas: bool = False) -> Choice:
    """
    Choose options of Linux 6.12 that make sense for the dump.

    :param commas: --name may get names with commas, which only our tool accepts
    """
    return Choice(
        letter=_choose_letter(rng, dump, ("", *LETTERS_6_12)),
        cull=choose_cull(rng, dump, CULL_KEYS_6_12) if rng.random() < 0.5 else (),
        **_choose_filters(rng, dump, 0.15, commas=commas),
    )


def choose_any(rng: random.Random, dump: Dump) -> Choice:
    """Choose any options that make sense for the dump, with at least one that 6.12 lacks."""
    cull_keys = (*CULL_KEYS_6_12, "module", "free")
    sort_keys = (*CULL_KEYS_6_12, "module", "alloc_ts", "free_ts", "txt")
    cull = choose_cull(rng, dump, cull_keys) if rng.random() < 0.5 else ()
    filters = _choose_filters(rng, dump, 0.1, commas=True)
    if rng.random() < 0.3:
        filters["modules"] = _some(rng, (r.stack.module for r in dump.records), b"nvme")
    if dump.era.free_ts and rng.random() < 0.3:
        filters["unreleased"] = True
    if rng.random() < 0.3:
        return Choice(_choose_letter(rng, dump, ("-M", "-r")), cull, **filters)
    return Choice(cull=cull, sort=choose_sort(rng, dump, sort_keys), **filters)


def choose_6_1(rng: random.Random, dump: Dump) -> Choice:
    """Choose options that 6.12 lacks and in which the tool of Linux 6.1 agrees with ours."""
    filters = _choose_filters(rng, dump, 0.1, commas=False)
    filters["unreleased"] = rng.random() < 0.3
    if rng.random() < 0.5:
        return Choice(**rng.choice(({"letter": "-r"}, {"sort": ("ft",)})), **filters)
    cull = choose_cull(rng, dump, (*CULL_KEYS_6_12, "free", "free"))
    sorts: tuple[dict[str, Any], ...] = (
        {"letter": rng.choice(("", "-t", "-m", "-p", "-P", "-n", "-s", "-r"))},
        {"sort": (rng.choice(("free_ts", "+ft", "-ft", "-free_ts")),)},
        {"sort": choose_sort(rng, dump, CULL_KEYS_6_12)},
    )
    return Choice(cull=cull, **rng.choice(sorts), **filters)
