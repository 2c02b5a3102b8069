"""
Show the mounts of this system, or the one at MOUNTPOINT.

With --json, print an object for MOUNTPOINT, or a list of objects for all mounts.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pageownerfs.daemon.ask import ask_mount, ask_mounts
from pageownerfs.daemon.mounts import read_mounts, resolve_mountpoint
from pageownerfs.errors import NotAPoolError, PageOwnerError
from pageownerfs.mm.kstrtox import format_size
from pageownerfs.sources import SOURCES
from pageownerfs.sources.pid_ns import pid_namespace

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options and operands."""
    parser.add_argument(
        "mountpoint", metavar="MOUNTPOINT", nargs="?", help="mount to show (default: all)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Show one mount, or all."""
    if args.mountpoint is not None:
        one = ask_mount(args.mountpoint)
        print(json.dumps(_with_rss(one), indent=2) if args.json else _format(args.mountpoint, one))
        return 0
    mountpoints = [mount.mountpoint for mount in read_mounts(ours=True)]
    answers = list(zip(mountpoints, ask_mounts(mountpoints), strict=True))
    if args.json:
        print(json.dumps([_as_json(*answer) for answer in answers], indent=2))
    elif not answers:
        print("no mounts; mount a pool with: pageownerfs pool MOUNTPOINT -o page_owner=on")
    else:
        print("\n\n".join(_as_text(*answer) for answer in answers))
    return 0


def _as_json(mountpoint: str, answer: dict[str, Any] | PageOwnerError) -> dict[str, Any]:
    if isinstance(answer, PageOwnerError):
        return {"mount_points": [mountpoint], "error": str(answer)}
    return _with_rss(answer)


def _as_text(mountpoint: str, answer: dict[str, Any] | PageOwnerError) -> str:
    try:
        return str(answer) if isinstance(answer, PageOwnerError) else _format(mountpoint, answer)
    except PageOwnerError as error:
        return str(error)


def _with_rss(mount: dict[str, Any]) -> dict[str, Any]:
    here = mount.get("pid_ns") == pid_namespace().inode
    mount["rss_bytes"] = _rss_bytes(mount["pid"]) if here and "pid" in mount else None
    return mount


def _rss_bytes(pid: int) -> int | None:
    import psutil  # noqa: PLC0415 - slow to import, and not needed by other verbs

    try:
        rss: int = psutil.Process(pid).memory_info().rss
    except (psutil.Error, OSError):
        return None
    return rss


def _format(mountpoint: str, mount: dict[str, Any]) -> str:
    # Any program can mount a file system of this type, with any description.
    try:
        return _format_rows(mountpoint, _with_rss(mount))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise NotAPoolError(
            f"{mountpoint}: cannot interpret the description of the mount "
            f"({type(error).__name__}: {error}), perhaps of another version; --json shows it"
        ) from error


def _format_rows(mountpoint: str, mount: dict[str, Any]) -> str:
    kind = SOURCES.get(mount["source"])
    rows = [
        ("source", f"{mount['source']} (pageownerfs {mount['version']})"),
        *(kind.status_rows(mount) if kind else ()),
        *_absent_rows(mount),
        ("uptime", _format_nsec(mount["uptime_nsec"])),
        ("daemon", _format_daemon(mount)),
        ("log", mount["log"]),
    ]
    here = resolve_mountpoint(mountpoint)
    others = [path for path in mount["mount_points"] if path != here]
    if others:
        rows.insert(1, ("also at", ", ".join(others)))
    return "\n".join([mountpoint, *(f"  {name + ':':12}{value}" for name, value in rows)])


def _absent_rows(mount: dict[str, Any]) -> list[tuple[str, str]]:
    by_reason: dict[str, list[str]] = {}
    for path, reason in mount["absent"].items():
        by_reason.setdefault(reason, []).append(path)
    return [("absent", f"{', '.join(paths)}: {reason}") for reason, paths in by_reason.items()]


def _format_daemon(mount: dict[str, Any]) -> str:
    rss = mount["rss_bytes"]
    return f"pid {mount['pid']}" + (f", {format_size(rss)} resident" if rss is not None else "")


def _format_nsec(nsec: int) -> str:
    minutes, seconds = divmod(nsec // 10**9, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return (f"{days} d " if days else "") + f"{hours}:{minutes:02}:{seconds:02}"
