"""What ends the agent before it runs, and what becomes of a configuration before programs are there."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from surface_moments import configured, document

from sluicegate_agent import startup
from sluicegate_agent.failure import StartError
from sluicegate_agent.kernel.libbpf import KernelError
from sluicegate_agent.loader.errors import LoaderError
from sluicegate_agent.network.namespace import NamespaceError
from sluicegate_agent.pins import AgentRunningError, PinsError
from sluicegate_agent.programs import FEATURES, needed_features, request, runnable
from sluicegate_agent.settings import load_settings
from sluicegate_agent.source.files import FileWatcher


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (NamespaceError("network namespace 'x' does not exist"), 2, "'x'"),
        (AgentRunningError("an agent already runs (process 7)"), 1, "process 7"),
        (PinsError("cannot write /sys/fs/bpf"), 1, "/sys/fs/bpf"),
        (LoaderError("no kernel headers", "apt-get install linux-headers"), 1, "no kernel headers"),
        (LoaderError("the compiler failed"), 1, "the compiler failed"),
        (KernelError("make a map", 1), 1, "make a map"),
    ],
)
def test_every_obstacle_becomes_a_message_with_a_remedy(error: Exception, code: int, words: str) -> None:
    with pytest.raises(StartError) as caught, startup.explained():
        raise error
    assert words in caught.value.message
    assert caught.value.remedy
    assert caught.value.exit_code == code


def test_nobody_but_root_gets_further(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(StartError, match="root"):
        startup.prepare(load_settings())


def test_nat_ports_that_local_sockets_may_get_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(startup, "local_port_range", lambda: (20000, 60999))
    with pytest.raises(StartError) as caught:
        startup.prepare(load_settings())
    assert "20000-60999" in caught.value.message
    assert "--nat-ports" in caught.value.remedy


def test_one_readable_file_is_enough_to_start(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: [")
    files = startup.read_at_least_one(FileWatcher([str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")]))
    assert list(files.texts) == [str(tmp_path / "a.yaml")]


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (Path.is_file, "no such file"),
        (Path.mkdir, "no *.yaml"),
        (lambda path: path.write_bytes(b"\xff"), "UTF-8"),
    ],
)
def test_without_a_readable_file_it_was_called_wrongly(
    tmp_path: Path, prepare: Callable[[Path], object], reason: str
) -> None:
    prepare(tmp_path / "conf.yaml")
    with pytest.raises(StartError, match=reason.replace("*", r"\*")) as caught:
        startup.read_at_least_one(FileWatcher([str(tmp_path / "conf.yaml")]))
    assert caught.value.exit_code == 2


def test_the_feature_set_follows_families_and_modes() -> None:
    v4 = configured(document()).effective()
    assert needed_features(v4) == {"IPV4", "FULL_NAT", "DNAT"}, "a backend of the node itself is reached in DNAT"
    backends = {"static": [{"address": "fd00::1"}]}
    v6 = configured(document(addresses=["2001:db8::1"], backends=backends, forwarding={"mode": "DNAT"})).effective()
    assert needed_features(v6) == {"IPV6", "DNAT"}
    assert needed_features([*v4, *v6]) == {"IPV4", "IPV6", "FULL_NAT", "DNAT"}
    direct = document(ports=[{"port": 80}], forwarding={"mode": "DirectReturn"})
    assert needed_features(configured(direct).effective()) == {"IPV4", "DIRECT_RETURN"}
    assert needed_features([]) == frozenset()


def test_sizes_and_features_reach_the_loader(tmp_path: Path) -> None:
    settings = load_settings(flows=5000, nat_entries=6000, backends=70, sources=300, affinities=4000)
    asked = request(settings, tmp_path, frozenset({"IPV4"}))
    assert {"FLOWS": 5000, "NATS": 6000, "BACKENDS": 70}.items() <= asked.sizes.items()
    assert {"NEXTHOPS": 140, "SOURCES": 300, "AFFINITIES": 4000, "FRAGMENTS": 8192}.items() <= asked.sizes.items()
    assert asked.features == {name: name == "IPV4" for name in FEATURES}


def test_what_needs_other_programs_keeps_its_running_version_until_they_are_there() -> None:
    running = configured(document(), document("api", addresses=["203.0.113.20"])).effective()
    direct = {"ports": [{"name": "http", "port": 80}], "forwarding": {"mode": "DirectReturn"}}
    wanted = configured(
        document(**direct),
        document("api", addresses=["203.0.113.21"]),
        document("new", addresses=["203.0.113.30"], **direct),
    ).effective()
    some = frozenset({"IPV4", "FULL_NAT", "DNAT"})
    assert set(map(repr, runnable(wanted, running, some))) == {repr(running[0]), repr(wanted[1])}
    assert runnable(wanted, running, frozenset(FEATURES)) == wanted


def test_sniffers_need_programs_of_both_families_and_tables_of_the_settings_size() -> None:
    sniffs = needed_features([], [object()])
    assert sniffs == {"IPV4", "IPV6", "SNIFF"}
    settings = load_settings(sniffed_flows=100_000)
    sizes = request(settings, Path(), sniffs).sizes
    assert (sizes["SNIFFS"], sizes["SNIFF_SLOTS"]) == (100_000, 262_144)
    small = request(settings, Path(), frozenset({"IPV4"})).sizes
    assert small["SNIFFS"] < 1000
    assert small["SNIFF_SLOTS"] & (small["SNIFF_SLOTS"] - 1) == 0
