"""What happened to live sniffing between two moments, as lines for the log. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from sluicegate_agent.dpi.live.model import RunState, WorkerState
from sluicegate_agent.dpi.rules.load import State
from sluicegate_agent.reports.situation import Situation
from sluicegate_agent.sniffing.state import Signatures, SnifferState, SniffingState
from sluicegate_api.common import ObjectKey


def sniffing_changes(moment: Situation, after: SniffingState) -> Iterator[str]:
    """Interfaces, workers, signatures and losses that are in another state now than they were in ``moment``."""
    before, links = moment.sniffing, moment.network.links
    for ifindex in sorted(before.sniffed.keys() | after.sniffed.keys()):
        name = links[ifindex].name if ifindex in links else f"with index {ifindex}"
        old, new = before.sniffed.get(ifindex), after.sniffed.get(ifindex)
        if new is not None and new != old:
            yield f"sniffer {new}: sniffs at interface {name}"
        elif new is None:
            yield f"sniffer {old}: no longer sniffs at interface {name}"
    for key, sniffer in after.sniffers.items():
        yield from _sniffer(key, before.sniffers.get(key, SnifferState()), sniffer)
    known = {worker.number: worker for worker in before.workers}
    for worker in after.workers:
        yield from _worker(known.get(worker.number), worker)
    if after.no_classification and after.no_classification != before.no_classification:
        yield f"sniffed flows are not classified: {after.no_classification}"


def _sniffer(key: ObjectKey, before: SnifferState, after: SnifferState) -> Iterator[str]:
    for problem in (*after.place.problems, *after.refused):
        if problem not in (*before.place.problems, *before.refused):
            yield f"sniffer {key}: {problem}"
    if after.signatures is not None and after.signatures != before.signatures:
        yield from _signatures(key, after.signatures)
    if after.losing and not before.losing:
        yield f"sniffer {key}: records are being lost, because the rings are full"
    if before.losing and not after.losing:
        yield f"sniffer {key}: no records are being lost any more; {after.counters.lost} were so far"
    if after.pressed and not before.pressed:
        yield f"sniffer {key}: under pressure, so flows get a smaller budget"


def _signatures(key: ObjectKey, signatures: Signatures) -> Iterator[str]:
    if signatures.error:
        yield f"sniffer {key}: no signatures: {signatures.error}"
    elif not signatures.loading:
        counts = signatures.counts
        left = signatures.left_out
        tail = f", {left} are not (sluicegate rules failed says why)" if left else ""
        rewritten = counts.get(State.REWRITTEN, 0)
        yield f"sniffer {key}: {signatures.in_force} signatures are in force, {rewritten} of them rewritten{tail}"


def _worker(before: WorkerState | None, after: WorkerState) -> Iterator[str]:
    if before is None or (before.state, before.reason) != (after.state, after.reason):
        reason = f": {after.reason}" if after.reason and after.state is not RunState.RUNNING else ""
        pid = f", process {after.pid}" if after.pid is not None and after.state is RunState.RUNNING else ""
        if after.state is not RunState.IDLE or before is not None:
            yield f"sniffing worker {after.number}: {after.state}{pid}{reason}"
    if after.quarantined > (before.quarantined if before is not None else 0):
        yield f"sniffing worker {after.number}: {after.quarantined} records that ended it are in quarantine"
