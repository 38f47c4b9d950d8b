"""Sniffers in the status: conditions, figures, and the reason of every empty part."""

from dataclasses import replace

import pytest
from sniffing_moments import COUNTERS, EDGE, OUTPUT, WORKER, sniffer, sniffing
from surface_moments import ETH0, configured, moment

from sluicegate_agent.cli.document import Status
from sluicegate_agent.cli.output import table_console
from sluicegate_agent.cli.sniffer_tables import print_sniffer
from sluicegate_agent.dpi.live.model import RunState
from sluicegate_agent.dpi.rules.load import State
from sluicegate_agent.reports.condition import Condition, ConditionStatus, ConditionType
from sluicegate_agent.reports.situation import Programs, Situation
from sluicegate_agent.reports.sniffer_view import SnifferView
from sluicegate_agent.reports.sniffers import silence
from sluicegate_agent.reports.status import status
from sluicegate_agent.sniffing.assignment import Place
from sluicegate_agent.sniffing.model import SniffCounters
from sluicegate_agent.sniffing.state import Signatures, SniffingState

RULES = {"signatures": {"inline": 'alert http any any -> any any (msg:"x"; content:"abc"; sid:1;)'}}
NOTHING = SniffCounters()


def shown(situation: Situation) -> SnifferView:
    [view] = status(situation).sniffers
    return view


def condition(situation: Situation, kind: ConditionType) -> Condition:
    found = shown(situation).condition(kind)
    assert found is not None
    return found


def test_a_sniffer_that_works_is_ready_and_sound() -> None:
    situation = sniffing()
    view = shown(situation)
    assert view.ready
    assert status(situation).ready
    for kind in (ConditionType.ACCEPTED, ConditionType.PROGRAMMED, ConditionType.READY):
        assert condition(situation, kind).status is ConditionStatus.TRUE
    assert condition(situation, ConditionType.PROGRAMMED).message == "the kernel sniffs at eth0"
    assert condition(situation, ConditionType.DEGRADED).status is ConditionStatus.FALSE
    assert [(each.name, each.mode, each.sniffed) for each in view.interfaces] == [("eth0", "xdp", True)]
    assert view.seconds_per_million == pytest.approx(10.0)
    assert view.active_flows == 7
    assert dict(view.empty) == {"signatures": "spec.signatures names none"}


def test_the_document_has_the_promised_shape_and_the_command_line_reads_it_back() -> None:
    document = status(sniffing()).to_json()
    [row] = document["sniffers"]  # type: ignore[misc]
    assert (row["namespace"], row["name"], row["sentShare"]) == ("shop", "edge", 0.02)
    assert (row["packets"], row["sent"], row["stopped"], row["lost"], row["flows"]) == (200_000, 4_000, 190_000, 0, 50)
    [read] = Status.model_validate(document).sniffers
    assert read.workers[0].pid == 77
    assert read.classification == "5.0.0"
    assert read.output is not None
    assert read.output.written == OUTPUT.written


def test_a_sniffer_waits_for_its_programs() -> None:
    compiling = Programs(frozenset({"IPV4", "IPV6"}), "the programs are being compiled")
    situation = replace(sniffing(), programs=compiling)
    programmed = condition(situation, ConditionType.PROGRAMMED)
    assert (programmed.reason, programmed.message) == ("ProgramsNotLoaded", "the programs are being compiled")
    assert condition(situation, ConditionType.READY).reason == "NotProgrammed"


def test_an_interface_that_another_sniffer_has_is_told() -> None:
    taken = "interface eth0 is sniffed by shop/also: one sniffer per interface"
    situation = sniffing(place=Place(1, {}, (taken,), {ETH0: taken}), more={"sniffed": {}})
    programmed = condition(situation, ConditionType.PROGRAMMED)
    assert (programmed.reason, programmed.message) == ("InterfaceTaken", taken)
    [interface] = shown(situation).interfaces
    assert (interface.sniffed, interface.reason) == (False, taken)
    assert shown(situation).empty["interfaces"] == taken


def test_no_interface_at_all_says_what_to_name() -> None:
    problem = "spec.attach.interfaces: no interface holds a default route: name those to sniff at"
    situation = sniffing(place=Place(1, {}, (problem,)), more={"sniffed": {}})
    programmed = condition(situation, ConditionType.PROGRAMMED)
    assert (programmed.reason, programmed.message) == ("NotAttached", problem)


@pytest.mark.parametrize(
    ("changes", "more"), [({"refused": ("no room for rules",)}, {}), ({}, {"refused": "no room for rules"})]
)
def test_what_the_kernel_refuses_is_told(changes: dict[str, object], more: dict[str, object]) -> None:
    programmed = condition(sniffing(more=more, **changes), ConditionType.PROGRAMMED)
    assert (programmed.reason, programmed.message) == ("KernelRefused", "no room for rules")


def test_without_an_engine_it_is_not_ready_and_says_that_traffic_passes() -> None:
    situation = sniffing(more={"engine_problem": "the engine cannot be started: no gcc", "workers": ()})
    ready = condition(situation, ConditionType.READY)
    assert ready.reason == "EngineAway"
    assert "traffic passes" in ready.message
    assert "no gcc" in ready.message
    assert not status(situation).ready
    assert "no gcc" in shown(situation).empty["workers"]


def test_workers_that_all_fail_are_an_engine_that_is_away() -> None:
    failed = replace(WORKER, state=RunState.FAILED, reason="killed by signal 11")
    situation = sniffing(more={"workers": (failed,)})
    assert "it does not start: killed by signal 11" in condition(situation, ConditionType.READY).message
    assert "worker 0 is failed: killed by signal 11" in condition(situation, ConditionType.DEGRADED).message


def test_one_worker_that_restarts_beside_another_is_an_impairment() -> None:
    restarting = replace(WORKER, number=1, state=RunState.RESTARTING, reason="killed by signal 9")
    situation = sniffing(more={"workers": (WORKER, restarting), "ring_lost": (0, 4)})
    assert condition(situation, ConditionType.READY).holds
    degraded = condition(situation, ConditionType.DEGRADED)
    assert (degraded.reason, degraded.message) == ("Impaired", "worker 1 is restarting: killed by signal 9")
    assert [worker.lost for worker in shown(situation).workers] == [0, 4]


def test_losing_records_right_now_is_told_and_losses_of_the_past_are_a_note() -> None:
    counters = replace(COUNTERS, lost=30)
    now = sniffing(counters=counters, losing=30)
    assert condition(now, ConditionType.DEGRADED).reason == "Losing"
    past = sniffing(counters=counters)
    assert condition(past, ConditionType.DEGRADED).status is ConditionStatus.FALSE
    assert shown(past).notes == ("30 records were lost since the sniffer began, none in the last second",)


def test_pressure_is_told() -> None:
    [note] = shown(sniffing(pressed=12)).notes
    assert note.startswith("under pressure: 12 flows")


def test_classification_that_is_off_is_an_impairment_unless_nobody_asked_for_it() -> None:
    more = {"workers": (replace(WORKER, classification="", no_classification="nfstream is missing"),)}
    degraded = condition(sniffing(more=more), ConditionType.DEGRADED)
    assert degraded.message == "classification is off: nfstream is missing"
    asked_off = sniffing(sniffer(classify={"depth": "Off"}, **RULES), more=more)
    assert condition(asked_off, ConditionType.DEGRADED).status is ConditionStatus.FALSE
    assert shown(asked_off).empty["classification"] == "spec.classify.depth is Off"


def test_signatures_are_counted_and_those_left_out_are_a_note() -> None:
    signatures = Signatures({State.LOADED: 3, State.REFUSED: 2}, ("a.rules:7: unknown option",))
    view = shown(sniffing(sniffer(**RULES), signatures=signatures))
    assert "signatures" not in view.empty
    assert view.notes == ("2 signatures are not in force: sluicegate rules failed -f FILE says why",)
    [row] = status(sniffing(sniffer(**RULES), signatures=signatures)).to_json()["sniffers"]  # type: ignore[misc]
    assert row["signatures"]["loaded"] == 3
    assert row["signatures"]["refused"] == 2


@pytest.mark.parametrize(
    ("signatures", "words"),
    [
        (Signatures(loading=True), "being loaded"),
        (Signatures(error="libhs is missing"), "libhs is missing"),
        (Signatures({State.REFUSED: 4}), "all 4 rules were left out"),
        (Signatures(), "holds no rule"),
    ],
)
def test_no_signature_in_force_has_a_reason(signatures: Signatures, words: str) -> None:
    assert words in shown(sniffing(sniffer(**RULES), signatures=signatures)).empty["signatures"]


@pytest.mark.parametrize(
    ("counters", "part", "words"),
    [
        (NOTHING, "packets", "no packet passed"),
        (NOTHING, "flows", "no packet passed"),
        (NOTHING, "sent", "no packet passed"),
        (SniffCounters(packets=9, opened=3, ignored=9), "sent", "no rule takes what passes"),
        (SniffCounters(packets=9, opened=3, no_worker=9), "sent", "no worker took packets"),
        (SniffCounters(packets=9, opened=3, lost=9), "sent", "the rings were full"),
        (SniffCounters(packets=9, opened=3, stopped=9), "sent", "nothing to look at"),
        (SniffCounters(packets=9, no_room=9), "flows", "SLUICEGATE_SNIFFED_FLOWS"),
        (SniffCounters(packets=9, unreadable=9), "flows", "9 unreadable"),
    ],
)
def test_every_empty_part_says_why(counters: SniffCounters, part: str, words: str) -> None:
    view = shown(sniffing(counters=counters, events={}))
    assert words in view.empty[part]
    assert view.empty["events"]


def test_a_sniffer_without_an_output_says_where_events_are_seen() -> None:
    assert "sluicegate observe" in shown(sniffing(sniffer(export={}), output=None)).empty["output"]


def test_an_output_that_cannot_be_written_is_an_impairment() -> None:
    full = replace(OUTPUT, problem="/var/log/eve.json cannot be written: No space left on device", dropped=5)
    situation = sniffing(output=full)
    assert "No space left" in condition(situation, ConditionType.DEGRADED).message
    assert "5 events did not reach" in shown(situation).notes[0]


def test_a_refused_sniffer_and_one_that_is_paused_from_the_start_are_shown() -> None:
    refused = moment(configured(sniffer(attach={"podSelector": {}})))
    assert condition(refused, ConditionType.ACCEPTED).reason == "Invalid"
    assert not shown(refused).ready
    paused = moment(configured(sniffer(paused=True)))
    assert "spec.paused" in condition(paused, ConditionType.PROGRAMMED).message
    assert condition(paused, ConditionType.PAUSED).holds


def test_a_bad_edit_leaves_it_running_and_is_told() -> None:
    before = sniffing()
    bad = configured(sniffer(colour="red"), previous=before.configuration)
    accepted = condition(replace(before, configuration=bad), ConditionType.ACCEPTED)
    assert accepted.reason == "Invalid"
    assert "stays in force" in accepted.message


def test_observers_hear_why_nothing_comes() -> None:
    assert silence(sniffing(), "flows") == ""
    assert "names none" in silence(sniffing(), "alerts")
    away = sniffing(more={"engine_problem": "no gcc", "workers": ()})
    assert "no gcc" in silence(away, "flows")
    assert silence(moment(configured()), "flows") == ""


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize(
    "situation",
    [sniffing(), sniffing(counters=NOTHING, events={}), moment(configured(sniffer()))],
    ids=["working", "silent", "new"],
)
def test_people_get_every_part_with_its_reason(
    situation: Situation, wide: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    [read] = Status.model_validate(status(situation).to_json()).sniffers
    print_sniffer(read, table_console(), wide=wide)
    out = capsys.readouterr().out
    for word in ("shop/edge", "interfaces:", "packets:", "flows:", "engine:", "signatures:", "events:"):
        assert word in out
    assert "not known" not in out


def test_cost_is_not_told_of_a_handful_of_packets() -> None:
    assert SniffingState(workers=(WORKER,), seen=10).seconds_per_million is None


def test_a_sniffer_is_no_load_balancer() -> None:
    view = status(sniffing())
    assert not view.loadbalancers
    assert view.sniffers[0].name == EDGE.name
