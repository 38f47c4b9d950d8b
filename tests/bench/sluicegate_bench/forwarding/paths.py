"""Ways through the node from ``c1`` to ``b1``: ours, the kernel's own, and none at all."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import bench as dataplane
from sluicegate_agent.datapath.model import ForwardingMode
from sluicegate_bench.packet.flows import PEERS, peers
from sluicegate_bench.packet.node import FIRST_BACKEND, FIRST_CLIENT

VIP_PORTS = {ForwardingMode.FULL_NAT: 81, ForwardingMode.DNAT: 82}
NFT_PORT = 83
"""Nothing of ours listens there."""

_TABLE = "sluicegate_bench"


@dataclass(frozen=True, slots=True)
class Programs:
    """Where programs are pinned."""

    balancer: Path
    sink_xdp: Path
    sink_tc: Path


@dataclass(frozen=True, slots=True)
class PathCase:
    """A way of forwarding. ``destination`` and ``port`` of the generated packets; ``set_up`` holds while they run."""

    name: str
    destination: str
    port: int
    set_up: Callable[[Programs], Iterator[None]]


def cases() -> tuple[PathCase, ...]:
    """All ways. UDP over IPv4, and 16 backends wherever there is balancing."""
    vip, backend = dataplane.VIP[4], FIRST_BACKEND[ForwardingMode.FULL_NAT][4]
    return (
        PathCase("generator alone", vip, NFT_PORT, _dropped_at_once),
        PathCase("Sluicegate, FullNAT", vip, VIP_PORTS[ForwardingMode.FULL_NAT], _ours),
        PathCase("Sluicegate, DNAT", vip, VIP_PORTS[ForwardingMode.DNAT], _ours),
        PathCase("Sluicegate, FullNAT, received as skb", vip, VIP_PORTS[ForwardingMode.FULL_NAT], _ours_to_stack),
        PathCase("plain routing", backend, NFT_PORT, _routed),
        PathCase("nftables, DNAT + masquerade", vip, NFT_PORT, _nftables),
    )


def _dropped_at_once(programs: Programs) -> Iterator[None]:
    with _xdp("c0", programs.sink_xdp):
        yield


def _ours(programs: Programs) -> Iterator[None]:
    with _xdp("c0", programs.balancer), _xdp("b1", programs.sink_xdp):
        yield


def _ours_to_stack(programs: Programs) -> Iterator[None]:
    with _xdp("c0", programs.balancer), _tc("b1", programs.sink_tc):
        yield


def _routed(programs: Programs) -> Iterator[None]:
    with _tc("b1", programs.sink_tc):
        yield


def _nftables(programs: Programs) -> Iterator[None]:
    backends = ", ".join(f"{number} : {a}" for number, a in enumerate(peers(FIRST_BACKEND[ForwardingMode.FULL_NAT][4])))
    target = f"numgen inc mod {PEERS} map {{ {backends} }} : {dataplane.BACKEND_PORT}"
    rules = f"""
    table ip {_TABLE} {{
        chain before {{
            type nat hook prerouting priority dstnat;
            ip daddr {dataplane.VIP[4]} udp dport {NFT_PORT} dnat to {target}
        }}
        chain after {{
            type nat hook postrouting priority srcnat;
            oifname "b0" masquerade
        }}
    }}
    """
    with _tc("b1", programs.sink_tc):
        _run("nft", "-f", "-", stdin=rules)
        # What a network card has verified is not verified again; a virtual pair has none to do it.
        Path("/proc/sys/net/netfilter/nf_conntrack_checksum").write_text("0", encoding="ascii")
        try:
            yield
        finally:
            _run("nft", "delete", "table", "ip", _TABLE)


@contextmanager
def _xdp(device: str, program: Path) -> Iterator[None]:
    _run("ip", "link", "set", "dev", device, "xdpdrv", "pinned", str(program))
    try:
        yield
    finally:
        _run("ip", "link", "set", "dev", device, "xdpdrv", "off")


@contextmanager
def _tc(device: str, program: Path) -> Iterator[None]:
    _run("tc", "qdisc", "replace", "dev", device, "clsact")
    try:
        _run("tc", "filter", "add", "dev", device, "ingress", "bpf", "da", "pinned", str(program))
        yield
    finally:
        _run("tc", "qdisc", "del", "dev", device, "clsact")


def set_up_devices() -> None:
    """Receive by NAPI, without which a veth takes no redirected frame; nothing of the stack that would drop packets."""
    for device in ("c0", "b1"):
        _run("ethtool", "-K", device, "gro", "on")
    for name in ("all", "c0", "b0"):
        Path(f"/proc/sys/net/ipv4/conf/{name}/rp_filter").write_text("0", encoding="ascii")
    _run("ip", "neigh", "replace", FIRST_CLIENT[4], "lladdr", dataplane.CLIENT_MAC, "dev", "c0", "nud", "permanent")


def _run(*command: str, stdin: str = "") -> None:
    try:
        done = subprocess.run(command, input=stdin, text=True, capture_output=True, timeout=30, check=False)
    except FileNotFoundError as error:
        raise RuntimeError(f"{command[0]} is not installed: apt-get install nftables iproute2 ethtool") from error
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
