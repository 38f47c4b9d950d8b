"""The balancers that get the pool, and one replay through one of them."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from sluicegate_agent.lab.namespace import LabError
from sluicegate_bench.load.balancers import Balancer, HaProxy, Running, Sluicegate
from sluicegate_bench.load.generator import Trace, milliseconds, visits
from sluicegate_bench.load.measure import fixed_rate, replay
from sluicegate_bench.load.site import PORT, site
from sluicegate_bench.pool.outcome import Outcome
from sluicegate_bench.pool.scenario import CORES, TIMEOUT, Scenario

_RIGHT = tuple(100 * cores for cores in CORES)
_PASSIVE = {"type": "Passive"}
_HTTP = {"type": "HTTP", "http": {"port": PORT, "path": "/load"}}
_PROBE_RATE, _PROBE_SECONDS = 100.0, 1.0

STATIC = "static Maglev, right weights"
LEAST_LOAD = "LeastLoad, equal weights"
PASSIVE = "dynamic LeastLoad, Passive, nothing configured"
HTTP = "dynamic LeastLoad, HTTP (ORCA), nothing configured"
RIGHT = "dynamic LeastLoad, Passive, right weights"
MAGLEV = "dynamic Maglev, Passive, right weights"
LEASTCONN = "HAProxy leastconn, equal weights"
LEASTCONN_RIGHT = "HAProxy leastconn, right weights"

PEERS: tuple[Balancer, ...] = (
    Sluicegate(STATIC, "Maglev", _RIGHT),
    HaProxy(LEASTCONN),
    Sluicegate(PASSIVE, dynamic=_PASSIVE),
    Sluicegate(LEAST_LOAD),
    Sluicegate(HTTP, dynamic=_HTTP),
    HaProxy(LEASTCONN_RIGHT, CORES),
    Sluicegate(MAGLEV, "Maglev", _RIGHT, dynamic=_PASSIVE),
    Sluicegate(RIGHT, weights=_RIGHT, dynamic=_PASSIVE),
)
"""In the order of their turns, alike ones apart. Right weights are in proportion to cores."""


def perform(balancer: Balancer, trace: Trace, scenario: Scenario, directory: Path) -> Outcome:
    """The whole scenario on a network of its own."""
    with site(CORES, directory) as place, balancer.at(place) as running:
        probes, _ = fixed_rate(place, running, _PROBE_RATE, _PROBE_SECONDS, 60000)
        generator, meter = replay(place, running, trace, TIMEOUT)
        watch = _Watch(running)
        events = []
        for at, command in scenario.events:
            watch.until(generator.zero + at)
            events.append((place.backends.command(command) - generator.zero, command))
        watch.until(generator.zero + scenario.end)
        results = generator.finish(TIMEOUT + 20)
        cost = meter.read(results)
        place.backends.finish()
        seen = visits(place.backends.log)
        seen = seen[seen["at"] >= generator.zero]
        seen["at"] -= generator.zero
        weights = tuple((at - generator.zero, found) for at, found in watch.seen)
    return Outcome(scenario, results, seen, tuple(events), cost, milliseconds(probes.latency, (0.5,))[0], weights)


class _Watch:
    """Notes the balancer's weights once a second, as long as it is waited."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._next = time.monotonic()
        self.seen: list[tuple[float, dict[str, float]]] = []

    def until(self, moment: float) -> None:
        """Wait for a moment of the monotonic clock."""
        while (left := moment - time.monotonic()) > 0:
            if self._running.agent is not None and left > 0.3 and time.monotonic() >= self._next:
                self._next += 1.0
                with suppress(LabError):
                    self.seen.append((time.monotonic(), self._running.weights()))
                continue
            time.sleep(min(left, 0.1))
