"""What the log says of live sniffing."""

from dataclasses import replace

from sniffing_moments import COUNTERS, EDGE, WORKER, sniffing, working
from surface_moments import ETH0, configured, moment

from sluicegate_agent.dpi.live.model import RunState
from sluicegate_agent.dpi.rules.load import State
from sluicegate_agent.reports.narrate_sniffing import sniffing_changes
from sluicegate_agent.reports.situation import Situation
from sluicegate_agent.sniffing.state import Signatures, SniffingState


def lines(before: Situation, after: Situation) -> list[str]:
    return list(sniffing_changes(before, after.sniffing))


def with_sniffer(situation: Situation, **changes: object) -> Situation:
    sniffers = {EDGE: working(**changes)}
    return replace(situation, sniffing=replace(situation.sniffing, sniffers=sniffers))


def test_what_stays_the_same_is_not_told() -> None:
    situation = sniffing()
    more = with_sniffer(situation, counters=replace(COUNTERS, packets=300_000), active={})
    assert lines(situation, situation) == []
    assert lines(situation, more) == []


def test_a_sniffer_comes_and_goes_with_its_interface_and_worker() -> None:
    new = moment(configured())
    assert lines(new, sniffing()) == [
        "sniffer shop/edge: sniffs at interface eth0",
        "sniffing worker 0: running, process 77",
    ]
    gone = replace(new, sniffing=SniffingState())
    assert lines(sniffing(), gone) == ["sniffer shop/edge: no longer sniffs at interface eth0"]
    unknown = sniffing(more={"sniffed": {ETH0 + 7: EDGE}})
    assert "sniffer shop/edge: sniffs at interface with index 9" in lines(sniffing(), unknown)


def test_workers_are_told_with_their_reason() -> None:
    killed = replace(WORKER, state=RunState.RESTARTING, reason="killed by signal 9", pid=None, quarantined=1)
    assert lines(sniffing(), sniffing(more={"workers": (killed,)})) == [
        "sniffing worker 0: restarting: killed by signal 9",
        "sniffing worker 0: 1 records that ended it are in quarantine",
    ]
    again = replace(killed, state=RunState.RUNNING, pid=78)
    told = lines(sniffing(more={"workers": (killed,)}), sniffing(more={"workers": (again,)}))
    assert told == ["sniffing worker 0: running, process 78"]


def test_signatures_are_told_once_they_are_in_force() -> None:
    loading = with_sniffer(sniffing(), signatures=Signatures(loading=True))
    done = with_sniffer(sniffing(), signatures=Signatures({State.LOADED: 8, State.REWRITTEN: 1, State.REFUSED: 2}))
    left_out = "2 are not (sluicegate rules failed says why)"
    assert lines(sniffing(), loading) == []
    assert lines(loading, done) == [f"sniffer shop/edge: 9 signatures are in force, 1 of them rewritten, {left_out}"]
    broken = with_sniffer(sniffing(), signatures=Signatures(error="libhs is missing"))
    assert lines(loading, broken) == ["sniffer shop/edge: no signatures: libhs is missing"]


def test_losses_and_pressure_are_told_when_they_begin_and_when_losses_end() -> None:
    calm, losing = sniffing(), with_sniffer(sniffing(), losing=7, pressed=3, counters=replace(COUNTERS, lost=7))
    assert lines(calm, losing) == [
        "sniffer shop/edge: records are being lost, because the rings are full",
        "sniffer shop/edge: under pressure, so flows get a smaller budget",
    ]
    over = with_sniffer(sniffing(), counters=replace(COUNTERS, lost=9))
    assert lines(losing, over) == ["sniffer shop/edge: no records are being lost any more; 9 were so far"]


def test_classification_that_is_off_is_told_once() -> None:
    off = sniffing(more={"workers": (replace(WORKER, classification="", no_classification="nfstream is missing"),)})
    assert lines(sniffing(), off) == ["sniffed flows are not classified: nfstream is missing"]
    assert lines(off, off) == []
