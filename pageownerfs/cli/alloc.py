"""
Allocate pages of a mounted pool.

Print the PFN of each block, one per line, and free the blocks. With --hold, free them after some
seconds, or at Ctrl-C or SIGTERM. With --leak, never free them: they stay in page_owner.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
from typing import TYPE_CHECKING

from pageownerfs.client import Pool
from pageownerfs.mm.gfp import GFP_KERNEL, parse_gfp
from pageownerfs.mm.zone import MAX_PAGE_ORDER

if TYPE_CHECKING:
    from pageownerfs._native import Page


def _gfp(text: str) -> int:
    try:
        return parse_gfp(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _number(text: str, first: int, last: float) -> int:
    if not text.isdecimal() or not first <= int(text) <= last:
        limit = f"from {first} to {last:.0f}" if math.isfinite(last) else f"of {first} or more"
        msg = f"{text!r} is not a whole number {limit}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _order(text: str) -> int:
    return _number(text, 0, MAX_PAGE_ORDER)


def _count(text: str) -> int:
    return _number(text, 1, math.inf)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    # sigtimedwait() does not accept much more than a year everywhere.
    if not 0 <= seconds <= 366 * 24 * 3600:
        msg = f"{text!r} is not a number of seconds from 0 to {366 * 24 * 3600}"
        raise argparse.ArgumentTypeError(msg)
    return seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options and operands."""
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", help="mount point of a pool")
    parser.add_argument(
        "--order",
        type=_order,
        default=0,
        metavar="N",
        help=f"allocate blocks of 2^N pages, N from 0 to {MAX_PAGE_ORDER} (default: 0)",
    )
    parser.add_argument(
        "--count", type=_count, default=1, metavar="N", help="number of blocks (default: 1)"
    )
    parser.add_argument(
        "--gfp",
        type=_gfp,
        default=GFP_KERNEL,
        metavar="MASK",
        help="gfp mask: a number, or names joined by '|' as in 'GFP_KERNEL|__GFP_ZERO' "
        "(default: GFP_KERNEL)",
    )
    end = parser.add_mutually_exclusive_group()
    end.add_argument("--hold", type=_seconds, metavar="SECONDS", help="free after SECONDS")
    end.add_argument("--leak", action="store_true", help="exit without freeing")


def run(args: argparse.Namespace) -> int:
    """Allocate pages, print their PFNs, hold them, and free them."""
    signals = (signal.SIGINT, signal.SIGTERM)
    with Pool.attach(args.mountpoint) as pool:
        if args.hold is not None:
            # Before the first allocation: a signal must not leave pages behind.
            signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        pages: list[Page] = []
        told = False
        try:
            for _ in range(args.count):
                pages.append(pool.alloc_pages(args.order, args.gfp))
                print(f"{pages[-1].pfn:#x}")
            sys.stdout.flush()
            told = True
            if args.hold is not None:
                signal.sigtimedwait(signals, args.hold)
        finally:
            if not (args.leak and told):
                for page in pages:
                    pool.free_pages(page)
    return os.EX_OK
