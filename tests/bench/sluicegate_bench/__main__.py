"""``python -m sluicegate_bench [PART ...]``: measure, print, keep the results under build/bench."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time

from sluicegate_bench.common.report import DOCUMENT, ROOT, write_documents

PARTS = {
    "packet": "sluicegate_bench.packet.part",
    "forwarding": "sluicegate_bench.forwarding.part",
    "http": "sluicegate_bench.http.part",
    "pool": "sluicegate_bench.pool.part",
    "dpi": "sluicegate_bench.dpi.part",
    "sniffing": "sluicegate_bench.sniffing.part",
}
"""Each module has ``run(tiny: bool, say: Callable[[str], None]) -> Report``."""


def main() -> int:
    """Exit code 0 whatever the figures are; 1 when a part cannot be measured, 2 on wrong use."""
    parser = argparse.ArgumentParser(prog="sluicegate_bench", description=__doc__)
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], help="all when none is given")
    parser.add_argument("--tiny", action="store_true", help="one short round of each case: does it run at all?")
    parser.add_argument("--docs", action="store_true", help="measure nothing; write the last results into the docs")
    options = parser.parse_args()
    parts = tuple(options.part or PARTS)
    if options.docs:
        say(f"{DOCUMENT.relative_to(ROOT)}: {', '.join(write_documents(parts)) or 'no results to write'}")
        return 0
    if os.geteuid():
        say("this needs root: it loads programs and makes network namespaces")
        return 1
    for part in parts:
        started = time.monotonic()
        report = importlib.import_module(PARTS[part]).run(options.tiny, say)
        print(report.text(), flush=True)
        if not options.tiny:
            say(f"{report.save().relative_to(ROOT)} after {time.monotonic() - started:.0f} s")
    return 0


def say(line: str) -> None:
    """Progress, apart from the results."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
