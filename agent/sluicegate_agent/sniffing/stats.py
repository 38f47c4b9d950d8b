"""A line of counters for each sniffer, now and then: EVE's event type "stats"."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from sluicegate_agent.dpi.events.lines import Origin, stats_line
from sluicegate_agent.dpi.live.model import RunState
from sluicegate_agent.dpi.live.pool import OnLines
from sluicegate_agent.sniffing.state import SnifferState, SniffingState

EVERY_NS: Final = 60 * 1_000_000_000


class StatsLines:
    """Publishes them once a minute."""

    def __init__(self, node: str, publish: OnLines) -> None:
        self._node = node
        self._publish = publish
        self._last_ns = 0

    def publish(self, state: SniffingState, now_ns: int) -> None:
        """A line for each sniffer, if it is time. ``now_ns`` on the wall clock."""
        if not self._last_ns:
            self._last_ns = now_ns
        if 0 <= now_ns - self._last_ns < EVERY_NS:
            return
        self._last_ns = now_ns
        for key, sniffer in state.sniffers.items():
            if sniffer.place.number is not None:
                line = stats_line(Origin(str(key), self._node), now_ns, stats_groups(state, sniffer))
                self._publish(sniffer.place.number, "stats", [line])


def stats_groups(state: SniffingState, sniffer: SnifferState) -> Mapping[str, Mapping[str, int]]:
    """The groups that the schema of events names. Those of engine and workers are of all sniffers together."""
    counters = sniffer.counters
    engine: Counter[str] = Counter()
    for worker in state.workers:
        engine.update(worker.engine)
    groups = {
        "sniffing": {
            "packets": counters.packets,
            "bytes": counters.octets,
            "sent": counters.sent,
            "sent_bytes": counters.sent_octets,
            "empty": counters.empty,
            "stopped": counters.stopped,
            "dropped": counters.dropped,
            "ignored": counters.ignored,
            "fragments": counters.fragments,
            "unreadable": counters.unreadable,
            "lost": counters.lost,
            "no_worker": counters.no_worker,
            "no_room": counters.no_room,
            "flows": counters.opened,
            "stopped_by_budget": counters.stopped_by_budget,
            "stopped_by_verdict": counters.stopped_by_verdict,
            "stopped_by_pressure": counters.stopped_by_pressure,
            "dropped_by_verdict": counters.dropped_by_verdict,
        },
        "engine": dict(engine),
        "workers": {
            "running": sum(worker.state is RunState.RUNNING for worker in state.workers),
            "restarts": sum(worker.restarts for worker in state.workers),
            "quarantined": sum(worker.quarantined for worker in state.workers),
            "lines_dropped": sum(worker.lines_dropped for worker in state.workers),
            "ends_dropped": sum(worker.ends_dropped for worker in state.workers),
        },
    }
    if sniffer.output is not None:
        output = sniffer.output
        groups["output"] = {
            "written": output.written,
            "dropped": output.dropped,
            "lost": output.lost,
            "queued": output.queued,
        }
    return groups
