"""``explain -f``: what files would make this machine do."""

import json
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from sniffing_moments import sniffer
from surface_moments import configured, document, moment, network
from typer.testing import CliRunner, Result

from sluicegate_agent.cli import explain as command
from sluicegate_agent.cli.main import app
from sluicegate_agent.network.model import NetworkSnapshot
from sluicegate_agent.planning.desired import Limits
from sluicegate_agent.programs import needed_features
from sluicegate_agent.reports.explain import addresses_of, explain
from sluicegate_agent.reports.map_memory import MapMemory
from sluicegate_agent.source.configuration import Configuration

MEMORY = (MapMemory("flows4", "hash, oldest go", 1024, 1000, 1000), MapMemory("nat4", "hash, as used", 1024, 10, 2000))


def explained(*texts: str, snapshot: NetworkSnapshot | None = None, limits: Limits | None = None) -> dict[str, object]:
    return explain(configured(*texts), snapshot or network(), limits or Limits(), MEMORY)


def services(answer: dict[str, object]) -> list[dict[str, object]]:
    balancers = answer["loadbalancers"]
    assert isinstance(balancers, list)
    return [service for balancer in balancers for service in balancer["services"]]


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    def look(_configuration: Configuration, _netns: str | None) -> tuple[NetworkSnapshot, list[str]]:
        return network(), []

    monkeypatch.setattr(command, "_look", look)
    return CliRunner().invoke(app, ["explain", *arguments])


def test_each_backends_share_is_what_the_agent_would_program() -> None:
    for algorithm in ("Maglev", "RoundRobin", "LeastLoad"):
        text = document(algorithm=algorithm)
        (service,) = services(explained(text))
        (slots,) = moment(configured(text)).desired.state.slots.values()
        assert service["algorithm"] == algorithm
        assert service["tableSlots"] == len(slots)
        first, second = service["backends"]  # type: ignore[misc]
        assert sorted((first["slots"], second["slots"])) == sorted(slots.count(each) for each in set(slots))
        assert first["share"] + second["share"] == pytest.approx(1.0)
        assert first["share"] == pytest.approx(2 / 3, abs=1e-3)


def test_a_port_is_explained_for_each_family_with_its_checks() -> None:
    both = document(
        addresses=["203.0.113.10", "203.0.113.11", "2001:db8::10"],
        backends={"static": [{"address": "10.0.0.1"}, {"address": "fd00::1", "weight": 0}]},
        healthCheck={"type": "TCP", "intervalSeconds": 4},
    )
    four, six = services(explained(both))
    assert [each["address"] for each in four["frontends"]] == ["203.0.113.10", "203.0.113.11"]  # type: ignore[attr-defined]
    assert four["healthCheck"] == {"type": "TCP", "port": None, "intervalSeconds": 4, "perSecond": 0.25}
    assert six["tableSlots"] == 0
    assert six["notes"] == ["every backend has weight 0: new connections are refused"]
    totals = explained(both)["totals"]
    assert totals == {
        "services": 2,
        "frontends": 3,
        "backends": 2,
        "healthChecksPerSecond": 0.5,
        "signalQuestionsPerSecond": 0.0,
    }


def test_what_will_not_work_here_is_said_where_it_stands() -> None:
    text = document(addresses=["203.0.113.10", "2001:db8::10", "192.0.2.1"], interfaces=["eth0", "eth9"])
    answer = explained(text, snapshot=network(unreachable={"10.0.0.2": "no route to 10.0.0.2"}))
    (balancer,) = answer["loadbalancers"]  # type: ignore[misc]
    assert [each["name"] for each in balancer["interfaces"]] == ["eth0"]
    assert any("no interface is called eth9" in note for note in balancer["notes"])
    assert any("192.0.2.1 is an address of this node" in note for note in balancer["notes"])
    four, six = balancer["services"]
    assert [each["address"] for each in four["frontends"]] == ["203.0.113.10"]
    assert [each["note"] for each in four["backends"]] == ["", "no route to 10.0.0.2"]
    assert six["notes"] == ["no IPv6 backend for its IPv6 VIPs: a VIP uses backends of its own family"]


def test_features_are_those_that_the_agent_would_compile() -> None:
    for text in (document(), document(forwarding={"mode": "DNAT"}), document(addresses=["2001:db8::10"])):
        assert explained(text)["features"] == sorted(needed_features(configured(text).effective()))
    assert explained("")["features"] == []


def test_memory_is_the_sum_of_the_tables_and_those_for_selection() -> None:
    memory = explained(document(), document("other", addresses=["203.0.113.20"]))["memory"]
    assert isinstance(memory, dict)
    selection = 2 * (312 + 8 * 4093)
    assert (memory["bytes"], memory["bytesWhenFull"]) == (1010 + selection, 3000 + selection)
    assert [row["name"] for row in memory["maps"]] == ["flows4", "nat4", "selection tables"]
    assert memory["maps"][2]["bytes"] == selection


def test_what_finds_no_room_in_the_tables_is_told_with_the_remedy() -> None:
    answer = explained(document(), limits=Limits(backends=2))
    assert answer["notes"] == [
        "2 backends do not fit into the 1 that the kernel's table holds: raise SLUICEGATE_BACKENDS"
    ]


def test_a_sniffer_is_explained_with_its_interfaces_and_what_it_leaves_alone() -> None:
    rules = [{"name": "web", "protocols": ["TCP"]}, {"source": {"cidrs": ["10.9.0.0/16"]}, "ignore": True}]
    answer = explained(sniffer(sniff=rules), sniffer("late"))
    edge, late = cast("list[dict[str, Any]]", answer["sniffers"])
    assert [each["name"] for each in edge["interfaces"]] == ["eth0"]
    assert edge["rules"] == [{"name": "web", "ignore": False}, {"name": "sniff[1]", "ignore": True}]
    assert edge["output"] == {"type": "File", "path": "/var/log/eve.json"}
    assert late["notes"] == ["interface eth0 is sniffed by shop/edge: one sniffer per interface"]
    assert answer["features"] == ["IPV4", "IPV6", "SNIFF"]


def test_ways_are_looked_up_to_every_backend() -> None:
    assert addresses_of(configured(document())) == {ip_address("10.0.0.1"), ip_address("10.0.0.2")}


def test_the_answer_is_a_table_or_a_document(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "web.yaml"
    path.write_text(document(), encoding="utf-8")
    table = call(monkeypatch, "-f", str(path))
    assert table.exit_code == 0
    for words in (
        "shop/web",
        "eth0 (it holds a default route)",
        "66.7%",
        "TCP every 2 s",
        "flows4",
        "when all are full",
    ):
        assert words in table.stdout
    found = json.loads(call(monkeypatch, "-f", str(path), "-o", "json").stdout)
    assert (found["ok"], found["problems"]) == (True, [])
    assert {row["name"] for row in found["memory"]["maps"]} >= {"flows4", "flows6", "nat4", "backends", "tables"}
    assert yaml.safe_load(call(monkeypatch, "-f", str(path), "-o", "yaml").stdout) == found


def test_errors_are_those_of_validate_and_the_rest_is_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text(document(), encoding="utf-8")
    (tmp_path / "b.yaml").write_text(document("other", colour="red"), encoding="utf-8")
    answer = call(monkeypatch, "-f", str(tmp_path), "-o", "json")
    assert answer.exit_code == 1
    found = json.loads(answer.stdout)
    checked = json.loads(CliRunner().invoke(app, ["validate", "-f", str(tmp_path), "-o", "json"]).stdout)
    assert found["problems"] == checked["problems"] != []
    assert [each["name"] for each in found["loadbalancers"]] == ["web"]
    assert "b.yaml" in call(monkeypatch, "-f", str(tmp_path)).stderr


def test_no_usable_file_explains_that_there_is_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(document(colour="red"), encoding="utf-8")
    result = call(monkeypatch, "-f", str(tmp_path))
    assert result.exit_code == 1
    assert "no load balancer and no sniffer of these files can be applied" in result.stdout
    assert call(monkeypatch, "-f", str(tmp_path / "none.yaml")).exit_code == 2


def test_a_size_that_cannot_be_used_is_a_usage_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(document(), encoding="utf-8")
    monkeypatch.setenv("SLUICEGATE_FLOWS", "many")
    result = call(monkeypatch, "-f", str(tmp_path))
    assert result.exit_code == 2
    assert "SLUICEGATE_FLOWS" in result.stderr
