"""``top``: what the agent counts, the rates between two answers, and the forms in which they are told."""

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from answering_agent import answering_agent
from rich.console import Console
from surface_moments import configured, document, moment

from sluicegate_agent.cli import top
from sluicegate_agent.cli.rates import TopAnswer, backend_view, vip_view
from sluicegate_agent.cli.top_tables import backend_table, bar, seconds_text
from sluicegate_agent.control.client import AgentUnreachableError
from sluicegate_agent.datapath.protocol import Counters, Traffic
from sluicegate_agent.planning.ids import BackendKey
from sluicegate_agent.reports.situation import Programs, Situation
from sluicegate_agent.reports.top import top_document
from sluicegate_agent.signals.model import Histogram, Latencies, Load
from sluicegate_agent.weights.model import Decision, Override


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Intervals are over at once; what was to be waited for is noted."""
    waits: list[float] = []
    monkeypatch.setattr(top, "time", SimpleNamespace(sleep=waits.append, monotonic=lambda: 0.0))
    return waits


def busy(situation: Situation, times: int) -> Situation:
    """As much traffic on every VIP and backend as ``times`` says; the second backend has twice the first one's."""
    keys = sorted(situation.desired.backends)
    identity = {key: situation.desired.backends[key].id for key in keys}
    traffic = {key: Traffic(10 * n * times, 1000 * n * times, 0, 0, 5 * n * times) for n, key in enumerate(keys, 1)}
    counters = Counters(
        frontends=dict.fromkeys(
            situation.desired.names.frontends, Traffic(30 * times, 3000 * times, opened=15 * times)
        ),
        backends={number: traffic[key] for key, number in identity.items() if number is not None},
    )
    return replace(
        situation,
        counters=counters,
        loads={
            key: Load(
                opened=5 * n * times + 2,
                closed=5 * n * times,
                requests=4 * times + 3,
                responses=4 * times,
                resets=times,
            )
            for n, key in enumerate(keys, 1)
        },
        latencies={key: Latencies(first_response=Histogram((0,) * 10 + (times, *(0,) * 13))) for key in keys},
    )


def web() -> Situation:
    return moment(configured(document()))


def answer(situation: Situation, seconds: float) -> TopAnswer:
    return TopAnswer.model_validate(json.loads(json.dumps(top_document(situation, seconds))))


def first_key(situation: Situation) -> BackendKey:
    return min(situation.desired.backends)


def test_rates_are_the_difference_of_two_answers_over_their_time() -> None:
    view = backend_view(answer(busy(web(), 1), 50.0), answer(busy(web(), 3), 52.0), "flows")
    assert view.seconds == 2.0
    second, first = view.rows
    assert (first.name, second.name) == ("10.0.0.1:8080", "10.0.0.2:8080")
    assert first.new_flows_per_second == 5.0
    assert first.packets_per_second == 10.0
    assert first.bits_per_second == 8000.0
    assert first.responses_per_second == 4.0
    assert first.failures_per_second == 1.0
    assert (first.active_flows, first.in_flight) == (2, 3)
    assert second.new_flows_per_second == 10.0
    assert view.note == ""


def test_times_are_those_of_the_interval_alone() -> None:
    slow_past = busy(web(), 1)
    past = Histogram((0,) * 20 + (1000, 0, 0, 0))
    slow_past = replace(slow_past, latencies={key: Latencies(first_response=past) for key in slow_past.latencies})
    counts = (*past.counts[:5], 8, *past.counts[6:])
    now = replace(
        slow_past, latencies={key: Latencies(first_response=Histogram(counts)) for key in slow_past.latencies}
    )
    row = backend_view(answer(slow_past, 0.0), answer(now, 1.0), "name").rows[0]
    assert row.p50 is not None
    assert row.p99 is not None
    assert 32e-6 <= row.p50 < row.p99 <= 64e-6


def test_without_a_new_time_there_is_none() -> None:
    row = backend_view(answer(busy(web(), 1), 0.0), answer(busy(web(), 1), 1.0), "name").rows[0]
    assert (row.p50, row.p99) == (None, None)


def test_counters_that_began_anew_count_from_nothing() -> None:
    """The id went to another backend, or the programs were loaded anew."""
    row = backend_view(answer(busy(web(), 100), 0.0), answer(busy(web(), 2), 1.0), "name").rows[0]
    assert row.new_flows_per_second == 10.0
    assert row.packets_per_second == 20.0


def test_a_backend_that_is_new_counts_from_nothing() -> None:
    before = answer(busy(web(), 1), 0.0)
    before.backends.clear()
    assert backend_view(before, answer(busy(web(), 1), 1.0), "name").rows[0].packets_per_second == 10.0


def test_two_answers_of_one_moment_divide_by_no_zero() -> None:
    assert backend_view(answer(busy(web(), 1), 7.0), answer(busy(web(), 1), 7.0), "flows").rows[0].bits_per_second == 0


@pytest.mark.parametrize(
    ("sort", "first"), [("flows", "10.0.0.2:8080"), ("name", "10.0.0.1:8080"), ("weight", "10.0.0.1:8080")]
)
def test_rows_are_sorted_by_the_key(sort: str, first: str) -> None:
    assert backend_view(answer(busy(web(), 1), 0.0), answer(busy(web(), 2), 1.0), sort).rows[0].name == first


def test_vips_have_rates_and_drops() -> None:
    before, after = busy(web(), 1), busy(web(), 2)
    dropped = {key: replace(each, dropped=9) for key, each in after.counters.frontends.items()}
    after = replace(after, counters=replace(after.counters, frontends=dropped))
    (row,) = vip_view(answer(before, 0.0), answer(after, 3.0), "dropped").rows
    assert (row.name, row.protocol, row.load_balancer, row.state) == ("203.0.113.10:80", "TCP", "shop/web", "balanced")
    assert (row.new_flows_per_second, row.dropped_per_second) == (5.0, 3.0)


def test_a_weight_comes_with_the_words_of_operator_check_and_controller() -> None:
    situation = busy(moment(configured(document()), down={"10.0.0.2": "refused"}), 1)
    key, other = sorted(situation.desired.backends)
    situation = replace(
        situation,
        overrides={key: Override(1_800_000_000.0, "ada")},
        decisions={other: Decision(40_000, reason="2.1 times slower than the pool's median: 40 % of its weight")},
    )
    rows = backend_view(answer(situation, 0.0), answer(situation, 1.0), "name").rows
    assert rows[0].reason == "drained by an operator (ada) until 2027-01-15T08:00:00Z"
    assert rows[0].overridden
    assert rows[1].reason == "refused; 2.1 times slower than the pool's median: 40 % of its weight"


def nothing_configured() -> Situation:
    return moment(configured())


def nothing_valid() -> Situation:
    return moment(configured(document(colour="red")))


def no_programs() -> Situation:
    return replace(moment(configured(document())), programs=Programs(frozenset(), "the programs are being compiled"))


def no_backend() -> Situation:
    return moment(configured(document(addresses=["2001:db8::10"])))


@pytest.mark.parametrize(
    ("situation", "what", "words"),
    [
        (nothing_configured, "backends", "no load balancer is configured"),
        (nothing_configured, "vips", "no load balancer is configured"),
        (nothing_valid, "vips", "no load balancer is valid: a.yaml"),
        (no_backend, "backends", "none of the 1 ports has a backend of its VIPs' family"),
        (no_programs, "backends", "the programs are not in use: the programs are being compiled"),
        (web, "vips", "no packet for any VIP was ever seen on eth0, eth1: route the VIPs"),
        (lambda: busy(web(), 1), "backends", "no packet of a balanced flow in the last "),
    ],
)
def test_an_empty_view_says_why(tmp_path: Path, situation: object, what: str, words: str) -> None:
    assert callable(situation)
    with answering_agent(tmp_path, situation()) as agent:
        result = agent.call("top", what, "--once")
        assert result.exit_code == 0
        assert words in result.stderr
        assert words in json.loads(agent.call("top", what, "--once", "-o", "json").stdout)["note"]


def test_a_table_is_printed_for_each_interval_off_a_terminal(tmp_path: Path, no_waiting: list[float]) -> None:
    with answering_agent(tmp_path, *(busy(web(), times) for times in (1, 2, 3))) as agent:
        result = agent.call("top", "backends", "-n", "2", "--interval", "3")
        assert no_waiting == [3.0, 6.0]
    assert result.exit_code == 0
    assert result.stdout.count("LOAD BALANCER") == 2
    for words in ("10.0.0.1:8080", "100 -> 100", "50 -> 50", "active", "1.4"):
        assert words in result.stdout
    assert "\x1b" not in result.stdout


def test_a_wide_table_adds_responses_and_failures(tmp_path: Path) -> None:
    with answering_agent(tmp_path, busy(web(), 1), busy(web(), 2), busy(web(), 3)) as agent:
        assert "FAILURES/S" in agent.call("top", "backends", "--once", "-o", "wide").stdout
        assert "FAILURES/S" not in agent.call("top", "backends", "--once").stdout
        assert "203.0.113.10:80/TCP" in agent.call("top", "vips", "--once").stdout


def test_programs_read_documents_or_lines(tmp_path: Path) -> None:
    with answering_agent(tmp_path, busy(web(), 1), busy(web(), 2)) as agent:
        quick = ("--once",)
        found = json.loads(agent.call("top", "backends", *quick, "-o", "json").stdout)
        assert found["rows"][0]["newFlowsPerSecond"] > 0
        assert {"loadBalancer", "effectiveWeight", "p99", "reason", "inFlight"} <= found["rows"][0].keys()
        lines = agent.call("top", "backends", *quick, "-o", "jsonl").stdout.splitlines()
        assert [json.loads(line)["name"] for line in lines] == ["10.0.0.1:8080", "10.0.0.2:8080"]
        (only,) = yaml.safe_load_all(agent.call("top", "vips", *quick, "-o", "yaml").stdout)
        assert only["rows"][0]["name"] == "203.0.113.10:80"


def test_on_a_terminal_the_table_is_renewed_and_a_restart_of_the_agent_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = StringIO()
    monkeypatch.setattr(top, "table_console", lambda: Console(file=screen, force_terminal=True, width=200))
    script: list[object] = [busy(web(), 2), AgentUnreachableError("no agent listens", "start one"), busy(web(), 5)]

    def ask() -> object:
        if not script:
            raise KeyboardInterrupt
        step = script.pop(0)
        if isinstance(step, Exception):
            raise step
        assert isinstance(step, Situation)
        return top_document(step, 1.0 + 3.0 * (2 - len(script)))

    with pytest.raises(KeyboardInterrupt):
        top._show_live(top._What.BACKENDS, "flows", answer(busy(web(), 1), 0.0), 1.0, ask, wide=False)
    shown = screen.getvalue()
    for words in ("backends by flows, over 1.0 s", "no agent listens: still trying", "over 6.0 s", "10.0.0.2:8080"):
        assert words in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["top", "clients"], "backends"),
        (["top", "vips", "--sort", "p99"], "choose from flows, active, packets, bits, dropped, name"),
        (["top", "backends", "--sort", "colour"], "choose from flows, active, inflight"),
        (["top", "backends", "--interval", "0"], "0.1"),
        (["top", "backends", "-n", "0"], "1"),
    ],
)
def test_wrong_use_is_two_and_says_what_there_is(tmp_path: Path, arguments: list[str], words: str) -> None:
    with answering_agent(tmp_path, web()) as agent:
        result = agent.call(*arguments)
        assert result.exit_code == 2
        assert words in result.stderr


@pytest.mark.parametrize(("width", "left_out"), [(80, 6), (130, 2), (200, 0)])
def test_a_narrow_terminal_leaves_columns_out_and_cuts_none(width: int, left_out: int) -> None:
    situation = busy(web(), 2)
    reason = "2.1 times slower than the pool's median: 40 % of its weight"
    situation = replace(situation, decisions=dict.fromkeys(situation.desired.backends, Decision(1, reason=reason)))
    rows = backend_view(answer(busy(web(), 1), 0.0), answer(situation, 1.0), "flows").rows
    screen = StringIO()
    Console(file=screen, width=width).print(backend_table(rows, wide=False, blocks=True, width=width))
    text = screen.getvalue()
    heads = ("ACTIVE", "IN FLIGHT", "PACKETS/S", "BITS/S", "P50", "█")
    assert sum(head not in text for head in heads) == left_out
    assert "…" not in text
    for words in ("10.0.0.1:8080", "FLOWS/S", "P99", "100 -> 100", "REASON"):
        assert words in text


@pytest.mark.parametrize(
    ("value", "largest", "cells"),
    [
        (0, 100, " " * 8),
        (100, 100, "█" * 8),
        (50, 100, "████    "),
        (0.001, 100, "▏       "),
        (0, 0, " " * 8),
        (5, 1, "█" * 8),
    ],
)
def test_a_bar_shows_the_part_of_the_largest_weight(value: float, largest: float, cells: str) -> None:
    assert bar(value, largest, blocks=True) == cells
    assert len(bar(value, largest, blocks=False)) == 8


def test_a_bar_without_blocks_is_plain() -> None:
    assert bar(50, 100, blocks=False) == "####    "
    assert bar(0.1, 100, blocks=False) == "#       "


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0000012, "1.2 us"),
        (0.00123, "1.23 ms"),
        (0.9999, "1 s"),
        (12.345, "12.3 s"),
        (0.000999, "999 us"),
    ],
)
def test_times_have_a_unit(seconds: float | None, text: str) -> None:
    assert seconds_text(seconds) == text
