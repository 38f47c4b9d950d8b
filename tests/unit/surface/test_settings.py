"""Flags, environment and defaults."""

from pathlib import Path

import pytest

from sluicegate_agent.settings import ListenAddress, PortRange, SettingsError, load_settings


def test_defaults_are_those_of_the_documentation() -> None:
    settings = load_settings()
    assert settings.state_dir == Path("/var/lib/sluicegate")
    assert str(settings.metrics) == "127.0.0.1:9431"
    assert settings.nat_ports == PortRange(1024, 29999)
    assert settings.scope == "host"
    assert not settings.program_statistics, "measuring costs every packet"


def test_a_variable_beats_the_default_and_a_flag_beats_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICEGATE_FLOWS", "5000")
    monkeypatch.setenv("SLUICEGATE_METRICS", "[::1]:9000")
    monkeypatch.setenv("SLUICEGATE_NAT_PORTS", "2000-3000")
    assert load_settings().flows == 5000
    assert load_settings().metrics == ListenAddress("::1", 9000)
    assert load_settings().nat_ports == PortRange(2000, 3000)
    assert load_settings(flows=6000, metrics=None).flows == 6000


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"metrics": "9431"}, ["--metrics", "ADDRESS:PORT"]),
        ({"metrics": "localhost:9431"}, ["--metrics", "no IP address"]),
        ({"metrics": "127.0.0.1:70000"}, ["--metrics"]),
        ({"nat_ports": "1024"}, ["--nat-ports", "FIRST-LAST"]),
        ({"nat_ports": "3000-2000"}, ["first port"]),
        ({"nat_ports": "0-2000"}, ["1-65535"]),
        ({"flows": 1}, ["--flows", "SLUICEGATE_FLOWS"]),
        ({"backends": 70000}, ["--backends"]),
        ({"netns": "../../etc"}, ["--netns"]),
        ({"netns": ".."}, ["--netns"]),
        ({"sniffed_flows": 1}, ["SLUICEGATE_SNIFFED_FLOWS"]),
        ({"dpi_workers": 65}, ["SLUICEGATE_DPI_WORKERS"]),
        ({"dpi_ring_bytes": 100_000}, ["power of two", "65536 or 131072"]),
    ],
)
def test_a_useless_value_is_refused_with_the_name_of_its_flag(flags: dict[str, object], words: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(**flags)
    for word in words:
        assert word in str(caught.value)


def test_the_scope_is_the_namespace() -> None:
    assert load_settings(netns="blue").scope == "blue"


@pytest.mark.parametrize(("cpus", "workers"), [(1, 1), (2, 1), (7, 1), (8, 2), (64, 16), (None, 1)])
def test_there_is_a_worker_for_every_four_cpus(cpus: int | None, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cpus)
    assert load_settings().worker_count == workers
    assert load_settings(dpi_workers=5).worker_count == 5
