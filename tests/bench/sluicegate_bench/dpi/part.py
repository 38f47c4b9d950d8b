"""The part ``dpi``: one mixed replay, offline for what is exact, over veth for what it costs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from sluicegate_bench.common.machine import Machine, describe
from sluicegate_bench.common.report import RESULTS, Report
from sluicegate_bench.common.series import Series, interleave
from sluicegate_bench.dpi import live, memory, oracle, reference, report, suricata
from sluicegate_bench.dpi.mix import Mix, build
from sluicegate_bench.dpi.results import CLASSIFYING, ENGINE, EVENTS, PLAIN, SURICATA, Agreement, Results
from sluicegate_bench.dpi.sending import Findings, Sent, engine_seconds, send

_ROUNDS = 5
_TINY_SHARE = 0.03
_TINY_FLOWS = 2000


def run(tiny: bool, say: Callable[[str], None]) -> Report:
    """Measure everything."""
    machine: Machine = describe()
    started = time.monotonic()
    directory = RESULTS / "dpi"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    say("dpi: making the replay")
    mix = build(directory / "replay.pcap", _TINY_SHARE if tiny else 1.0)
    say("dpi: what goes up, what is found")
    sent = send(mix, directory)
    agreement = _agreement(mix, sent.findings, send(mix, directory, everything=True).findings)
    say("dpi: cost of engine, Python and Suricata")
    other = suricata.find()
    cost = _cost(mix, sent, directory, other, tiny=tiny, say=say)
    say("dpi: memory")
    memory_found = memory.measure(directory, _TINY_FLOWS if tiny else memory.FLOWS)
    say("dpi: the live way")
    live_found = live.measure(mix, directory, tiny=tiny, say=say)
    version = None if other is None else other.version
    results = Results(mix, sent, agreement, cost, memory_found, live_found, version)
    return report.report(results, machine, time.monotonic() - started)


def _agreement(mix: Mix, found: Findings, with_everything: Findings) -> Agreement:
    known = {key: label for key, label in with_everything.labels.items() if label not in {"", "Unknown"}}
    there = oracle.matches(mix)
    return Agreement(
        known=len(known),
        same=sum(found.labels.get(key) == label for key, label in known.items()),
        there=frozenset(there),
        kept=frozenset(there & found.alerts),
        unexpected=len(found.alerts - there - with_everything.alerts),
    )


def _cost(
    mix: Mix, sent: Sent, directory: Path, other: suricata.Suricata | None, *, tiny: bool, say: Callable[[str], None]
) -> dict[str, Series]:
    def python(*, classify: bool) -> float:
        return reference.seconds(sent.rings, directory / "python-eve.json", classify=classify)

    cases: dict[str, Callable[[], float]] = {
        ENGINE: lambda: engine_seconds(sent, directory, events=False),
        EVENTS: lambda: engine_seconds(sent, directory, events=True),
        PLAIN: lambda: python(classify=False),
        CLASSIFYING: lambda: python(classify=True),
    }
    if other is not None:
        cases[SURICATA] = lambda: other.seconds(mix.path, directory / "bench.rules")
    return interleave(cases, 1 if tiny else _ROUNDS, warm_up=0 if tiny else 1, progress=say)
