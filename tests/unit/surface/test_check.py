"""The preflight's rows."""

from dataclasses import replace
from pathlib import Path

import pytest

from sluicegate_agent.preflight.check import InterfaceFacts, Level, Probe, Probes, Row, nat_port_row, preflight, worst
from sluicegate_agent.preflight.machine import Facts, gather
from sluicegate_agent.settings import PortRange

GOOD = Facts(
    uid=0,
    capabilities=(1 << 41) - 1,
    kernel="6.12.5-amd64",
    bpffs_mounted=True,
    headers=Path("/lib/modules/6.12.5-amd64"),
    headers_complete=True,
    bcc=True,
    libbpf="v1.1",
    forwarding={4: True, 6: True},
    local_ports=(32768, 60999),
)
ETH0 = InterfaceFacts("eth0", "virtio_net", "", 1500, up=True, takes_redirect=True, default_route=True)
PORTS = PortRange(1024, 29999)


WORKS = Probes()


def rows(facts: Facts = GOOD, probes: Probes = WORKS, *cards: InterfaceFacts) -> dict[str, Row]:
    return {row.id: row for row in preflight(facts, probes, PORTS, cards or (ETH0,))}


def test_a_machine_with_everything_passes_every_row() -> None:
    found = rows()
    assert worst([*found.values()]) is Level.OK
    assert not any(row.remedy for row in found.values())


@pytest.mark.parametrize(
    ("change", "row", "level", "words"),
    [
        ({"uid": 1000, "capabilities": 0}, "privileges", Level.FAIL, "sudo"),
        ({"capabilities": 1 << 12}, "privileges", Level.FAIL, "capabilities"),
        ({"kernel": "6.1.0-13-amd64"}, "kernel", Level.OK, ""),
        ({"engine": "it is not built"}, "dpi-engine", Level.WARN, "make setup"),
        ({"classification": "nfstream is missing"}, "dpi-classification", Level.WARN, "make setup"),
        ({"kernel": "5.15"}, "kernel", Level.FAIL, "6.1"),
        ({"kernel": "6.6.0"}, "kernel", Level.OK, ""),
        ({"kernel": "10.0"}, "kernel", Level.OK, ""),
        ({"bpffs_mounted": False}, "bpffs", Level.WARN, "mount -t bpf"),
        ({"libbpf": None}, "libbpf", Level.FAIL, "libbpf1"),
        ({"bcc": False}, "bcc", Level.FAIL, "python3-bpfcc"),
        ({"headers_complete": False}, "headers", Level.FAIL, "linux-headers"),
        ({"forwarding": {4: False, 6: True}}, "forwarding-ipv4", Level.WARN, "net.ipv4.ip_forward=1"),
        ({"forwarding": {4: True, 6: False}}, "forwarding-ipv6", Level.WARN, "net.ipv6.conf.all.forwarding=1"),
        ({"forwarding": {4: True, 6: None}}, "forwarding-ipv6", Level.WARN, ""),
        ({"local_ports": (20000, 60999)}, "nat-ports", Level.FAIL, "--nat-ports"),
    ],
)
def test_what_is_missing_has_its_level_and_its_remedy(
    change: dict[str, object], row: str, level: Level, words: str
) -> None:
    found = rows(replace(GOOD, **change))[row]  # type: ignore[arg-type]
    assert found.level is level
    assert words in found.remedy


def test_what_the_kernel_refuses_is_told_in_its_own_words() -> None:
    found = rows(GOOD, Probes(Probe("Operation not permitted"), Probe("Invalid argument")))
    assert (found["bpf"].level, found["tcx"].level) == (Level.FAIL, Level.OK)
    assert "Operation not permitted" in found["bpf"].message
    assert "Invalid argument" in found["tcx"].message


@pytest.mark.parametrize(
    ("local", "level", "remedy"),
    [
        ((30000, 60999), Level.OK, ""),
        ((29999, 60999), Level.FAIL, "1024-29998"),
        ((1, 1023), Level.OK, ""),
        ((1024, 1024), Level.FAIL, "1025-65535"),
        ((2000, 3000), Level.FAIL, "3001-65535"),
        (None, Level.WARN, ""),
    ],
)
def test_nat_ports_must_be_clear_of_local_ports(local: tuple[int, int] | None, level: Level, remedy: str) -> None:
    row = nat_port_row(PORTS, local)
    assert row.level is level
    assert remedy in row.remedy


def test_interfaces_are_described_and_those_that_are_down_or_too_narrow_warned_of() -> None:
    veth = InterfaceFacts("pod0", None, "veth", 1500, up=False, takes_redirect=False, default_route=False)
    narrow = replace(ETH0, name="eth1", mtu=1000)
    found = rows(GOOD, WORKS, ETH0, veth, narrow)
    assert found["interface-eth0"].message == (
        "eth0: driver virtio_net (hardware), MTU 1500, takes redirected frames, default route"
    )
    assert (found["interface-pod0"].level, found["interface-pod0"].remedy) == (Level.WARN, "ip link set pod0 up")
    assert found["interface-eth1"].level is Level.WARN


def test_a_kernel_without_multi_buffer_xdp_is_warned_of() -> None:
    row = rows(GOOD, Probes(fragments=Probe("Invalid argument")))["xdp-frags"]
    assert (row.level, row.remedy) == (Level.WARN, "needs Linux 5.18")
    assert "interfaces with jumbo frames use tc" in row.message


def test_programs_on_an_interface_are_named() -> None:
    card = replace(ETH0, programs=("XDP theirs (id 3) in the driver", "tc a u32 filter"))
    row = rows(GOOD, WORKS, card)["interface-eth0"]
    assert row.level is Level.OK
    assert row.message.endswith("; programs on it: XDP theirs (id 3) in the driver, tc a u32 filter")


def test_the_facts_of_this_machine_can_be_read_by_anybody() -> None:
    facts = gather()
    assert facts.kernel
    assert set(facts.forwarding) == {4, 6}
