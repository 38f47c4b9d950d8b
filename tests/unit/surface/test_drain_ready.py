"""``drain`` and ``ready`` over a real control socket, and what is kept of them on disk."""

import json
import time
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from answering_agent import answering_agent
from surface_moments import configured, document, moment

from sluicegate_agent.control.durations import DurationError, duration_text, parse_duration, parse_ttl
from sluicegate_agent.overrides import OverrideStore
from sluicegate_agent.planning.ids import BackendKey, ServiceKey
from sluicegate_agent.reports.situation import Situation
from sluicegate_agent.weights.model import Override
from sluicegate_api.common import ObjectKey


def backend(address: str = "10.0.0.1", port: str = "http", *, name: str = "web") -> BackendKey:
    return BackendKey(ServiceKey(ObjectKey("shop", name), port, 4), ip_address(address), 8080)


def web() -> Situation:
    return moment(configured(document()))


@pytest.mark.parametrize(
    "target",
    ["web/10.0.0.1", "shop/web/10.0.0.1", "web/10.0.0.1:8080", "lb/web/10.0.0.1", "lb/shop/web/10.0.0.1:8080"],
)
def test_a_backend_is_drained_for_a_while_and_said_to_be_so(tmp_path: Path, target: str) -> None:
    with answering_agent(tmp_path, web()) as agent:
        result = agent.call("drain", target, "--ttl", "10m")
        assert result.exit_code == 0
        assert "shop/web http 10.0.0.1:8080: drained on this node until " in result.stdout
        (key,) = agent.overrides.current(time.time())
        assert key == backend()
        assert 595 < agent.overrides.current(0)[key].until - time.time() <= 600


def test_ready_takes_it_back(tmp_path: Path) -> None:
    with answering_agent(tmp_path, web()) as agent:
        agent.overrides.drain([backend()], time.time() + 60)
        result = agent.call("ready", "web/10.0.0.1")
        assert (result.exit_code, result.stderr) == (0, "")
        assert "10.0.0.1:8080: not drained any more" in result.stdout
        assert agent.overrides.current(0) == {}


def test_ready_of_a_backend_that_nobody_drained_says_what_keeps_it_out(tmp_path: Path) -> None:
    with answering_agent(tmp_path, moment(configured(document()), down={"10.0.0.1": "refused"})) as agent:
        result = agent.call("ready", "web/10.0.0.1")
        assert result.exit_code == 0
        assert "was not drained by an operator: its health check fails: refused" in result.stderr
        assert "it takes new flows" in agent.call("ready", "web/10.0.0.2").stderr


def test_an_address_alone_means_all_ports_of_that_backend(tmp_path: Path) -> None:
    ports = [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "https", "port": 443, "targetPort": 8443}]
    with answering_agent(tmp_path, moment(configured(document(ports=ports)))) as agent:
        answer = json.loads(agent.call("drain", "web/10.0.0.1", "-o", "json").stdout)
        assert [each["port"] for each in answer["backends"]] == [8080, 8443]
        assert answer["action"] == "drain"
        assert answer["until"].endswith("Z")
        agent.call("ready", "web/10.0.0.1:8443")
        assert [key.port for key in agent.overrides.current(0)] == [8080]


def test_draining_the_last_backend_warns_which_port_is_left_alone(tmp_path: Path) -> None:
    other = {backend("10.0.0.2"): Override(time.time() + 60)}
    with answering_agent(tmp_path, web(), web(), replace(web(), overrides=other)) as agent:
        result = agent.call("drain", "web/10.0.0.1")
        assert result.stderr == ""
        result = agent.call("drain", "web/10.0.0.1")
        assert result.exit_code == 0
        assert "warning: no other backend of shop/web http over IPv4 takes new flows" in result.stderr


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nope/10.0.0.1", "the agent knows lb/shop/web"),
        ("web/10.0.0.9", "shop/web has no backend 10.0.0.9; it has 10.0.0.1:8080, 10.0.0.2:8080"),
        ("web/10.0.0.1:81", "it has 10.0.0.1:8080"),
        ("web/here", "'here' is no address"),
        ("web/fd00::1:80:", "is no address"),
    ],
)
@pytest.mark.parametrize("command", ["drain", "ready"])
def test_what_does_not_exist_is_one_and_names_what_does(tmp_path: Path, command: str, target: str, words: str) -> None:
    with answering_agent(tmp_path, web()) as agent:
        result = agent.call(command, target)
        assert (result.exit_code, result.stdout) == (1, "")
        assert words in result.stderr
        assert agent.overrides.current(0) == {}


def test_a_name_in_two_namespaces_must_be_told_apart(tmp_path: Path) -> None:
    second = document(addresses=["203.0.113.20"]).replace("namespace: shop", "namespace: bank")
    with answering_agent(tmp_path, moment(configured(document(), second))) as agent:
        assert "several namespaces" in agent.call("drain", "web/10.0.0.1").stderr
        assert agent.call("drain", "bank/web/10.0.0.1").exit_code == 0


@pytest.mark.parametrize("arguments", [["web"], ["/10.0.0.1"], ["web/"], ["web/10.0.0.1", "--ttl", "soon"]])
def test_words_that_name_no_backend_or_time_are_two_and_ask_nobody(tmp_path: Path, arguments: list[str]) -> None:
    with answering_agent(tmp_path, web()) as agent:
        result = agent.call("drain", *arguments)
        assert result.exit_code == 2
        assert "error: " in result.stderr
        assert agent.overrides.current(0) == {}


def test_an_override_outlives_the_agent_and_not_its_time(tmp_path: Path) -> None:
    store = OverrideStore(tmp_path)
    store.drain([backend()], 100.0, "ada")
    store.drain([backend("10.0.0.2")], 200.0)
    assert store.next_expiry() == 100.0
    again = OverrideStore(tmp_path)
    assert again.current(99.0) == {backend(): Override(100.0, "ada"), backend("10.0.0.2"): Override(200.0)}
    assert list(again.current(100.0)) == [backend("10.0.0.2")]
    assert list(OverrideStore(tmp_path).current(0.0)) == [backend("10.0.0.2")]
    assert again.current(200.0) == {}
    assert again.next_expiry() is None


def test_the_last_word_on_a_backend_counts(tmp_path: Path) -> None:
    store = OverrideStore(tmp_path)
    store.drain([backend()], 100.0)
    store.drain([backend()], 50.0, "bob")
    assert store.current(0.0) == {backend(): Override(50.0, "bob")}
    assert store.ready([backend(), backend("10.0.0.2")]) == {backend()}
    assert store.ready([backend()]) == frozenset()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 9, "drained": []}', '{"format": 1, "drained": [{}]}'])
def test_a_file_that_cannot_be_used_drains_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / "overrides.json").write_text(text, encoding="utf-8")
    assert OverrideStore(tmp_path).current(0.0) == {}


def test_a_disk_that_takes_nothing_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = OverrideStore(tmp_path / "gone")
    store.drain([backend()], 100.0)
    assert store.current(0.0) == {backend(): Override(100.0)}
    assert "cannot keep the overrides" in caplog.text


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("10m", 600), ("2h", 7200), ("1h30m", 5400), ("7d", 604_800), ("90s", 90)]
)
def test_durations_are_read_as_people_write_them(text: str, seconds: int) -> None:
    assert parse_ttl(text) == seconds
    assert parse_ttl(duration_text(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "30", "10 m", "-1m", "m", "1m1h", "٣s", "0s", "8d", "999999999d", "1.5h", "10M"])
def test_other_durations_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(DurationError, match=r"--ttl: .* write "):
        parse_ttl(text)
    with pytest.raises(DurationError):
        parse_duration(text, least=1, most=604_800)
