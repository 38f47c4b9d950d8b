"""The preflight: whether this machine can run the agent, one row per condition, each with its remedy. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sluicegate_agent.preflight.machine import Facts
from sluicegate_agent.settings import PortRange

OLDEST_KERNEL = (6, 1)
"""Of Debian 12. The programs call helpers that came with 5.18."""

_CAPABILITIES = {12: "CAP_NET_ADMIN", 21: "CAP_SYS_ADMIN", 38: "CAP_PERFMON", 39: "CAP_BPF"}  # linux/capability.h
_SYSCTL = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}
_SMALLEST_MTU = 1280


class Level(StrEnum):
    """FAIL: the agent cannot work. WARN: it works, but something will be missing or slow."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the preflight; ``remedy`` is empty when there is nothing to do."""

    id: str
    level: Level
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """Outcome of asking the kernel for something: ``error`` is None when it worked."""

    error: str | None = None


@dataclass(frozen=True, slots=True)
class Probes:
    """Whether the kernel makes maps, has tcx links, and gives XDP programs frames in several buffers."""

    bpf: Probe = Probe()
    tcx: Probe = Probe()
    fragments: Probe = Probe()


@dataclass(frozen=True, slots=True)
class InterfaceFacts:
    """An interface as the preflight shows it. ``kind`` is rtnetlink's, empty for hardware.

    ``programs`` are those that packets meet when they enter, ours or others', in words.
    """

    name: str
    driver: str | None
    kind: str
    mtu: int
    up: bool
    takes_redirect: bool
    default_route: bool
    programs: tuple[str, ...] = ()


def preflight(
    facts: Facts, probes: Probes, nat_ports: PortRange, interfaces: Sequence[InterfaceFacts]
) -> tuple[Row, ...]:
    """All rows, in the order in which they should be mended."""
    return (
        _privileges(facts),
        _kernel(facts),
        _bpf(probes.bpf),
        _tcx(probes.tcx),
        _fragments(probes.fragments),
        _bpffs(facts),
        _libbpf(facts),
        _bcc(facts),
        _headers(facts),
        *(_forwarding(facts, family) for family in (4, 6)),
        nat_port_row(nat_ports, facts.local_ports),
        _engine(facts),
        _classification(facts),
        *(_interface(interface) for interface in interfaces),
    )


def worst(rows: Sequence[Row]) -> Level:
    """The level that decides the exit code."""
    levels = {row.level for row in rows}
    return next((level for level in (Level.FAIL, Level.WARN) if level in levels), Level.OK)


def _privileges(facts: Facts) -> Row:
    lacking = [name for bit, name in _CAPABILITIES.items() if not facts.capabilities >> bit & 1]
    if not lacking:
        return Row("privileges", Level.OK, f"uid {facts.uid}, with {', '.join(_CAPABILITIES.values())}")
    return Row(
        "privileges",
        Level.FAIL,
        f"uid {facts.uid} lacks {', '.join(lacking)}",
        "run as root: sudo sluicegate ..." if facts.uid else "give the container these capabilities, or --privileged",
    )


def _kernel(facts: Facts) -> Row:
    found = re.match(r"(\d+)\.(\d+)", facts.kernel)
    wanted = ".".join(map(str, OLDEST_KERNEL))
    if found and (int(found[1]), int(found[2])) >= OLDEST_KERNEL:
        return Row("kernel", Level.OK, f"Linux {facts.kernel}")
    return Row(
        "kernel",
        Level.FAIL,
        f"Linux {facts.kernel} lacks what the programs need; they are made for {wanted} and newer",
        f"boot Linux {wanted} or newer",
    )


def _bpf(probe: Probe) -> Row:
    if probe.error is None:
        return Row("bpf", Level.OK, "a BPF map can be made")
    return Row(
        "bpf",
        Level.FAIL,
        f"a BPF map cannot be made: {probe.error}",
        "needs CAP_BPF, a kernel with CONFIG_BPF_SYSCALL, and no seccomp or lockdown policy against bpf()",
    )


def _tcx(probe: Probe) -> Row:
    if probe.error is None:
        return Row("tcx", Level.OK, "the kernel knows tcx links")
    return Row(
        "tcx", Level.OK, f"no tcx links ({probe.error}): tc programs go in as clsact filters, as before Linux 6.6"
    )


def _fragments(probe: Probe) -> Row:
    if probe.error is None:
        return Row("xdp-frags", Level.OK, "XDP takes frames in several buffers, so jumbo frames")
    return Row(
        "xdp-frags",
        Level.WARN,
        f"XDP takes no frames in several buffers ({probe.error}): interfaces with jumbo frames use tc",
        "needs Linux 5.18",
    )


def _bpffs(facts: Facts) -> Row:
    if facts.bpffs_mounted:
        return Row("bpffs", Level.OK, "/sys/fs/bpf is mounted")
    return Row(
        "bpffs",
        Level.WARN,
        "/sys/fs/bpf is not mounted",
        "the agent mounts it at start; by hand: mount -t bpf bpf /sys/fs/bpf",
    )


def _libbpf(facts: Facts) -> Row:
    if facts.libbpf is not None:
        return Row("libbpf", Level.OK, f"libbpf {facts.libbpf}")
    return Row("libbpf", Level.FAIL, "libbpf.so.1 cannot be loaded", "apt-get install libbpf1")


def _bcc(facts: Facts) -> Row:
    if facts.bcc:
        return Row("bcc", Level.OK, "the Python module bcc is there")
    return Row(
        "bcc",
        Level.FAIL,
        "the Python module bcc, which compiles the programs, is missing",
        "apt-get install python3-bpfcc, and use a virtual environment with system site packages (make setup)",
    )


def _headers(facts: Facts) -> Row:
    if facts.headers_complete:
        return Row("headers", Level.OK, f"kernel headers under {facts.headers}")
    return Row(
        "headers",
        Level.FAIL,
        f"no kernel headers: {facts.headers}/build and {facts.headers}/source do not both lead to an include folder",
        "apt-get install linux-headers-$(uname -r); make setup links other headers for a kernel that has none",
    )


def _forwarding(facts: Facts, family: int) -> Row:
    identity, sysctl = f"forwarding-ipv{family}", _SYSCTL[family]
    match facts.forwarding[family]:
        case True:
            return Row(identity, Level.OK, f"{sysctl} is on")
        case False:
            return Row(
                identity,
                Level.WARN,
                f"{sysctl} is off: packets of IPv{family} VIPs cannot be forwarded",
                f"sysctl -w {sysctl}=1, and keep it in /etc/sysctl.d",
            )
        case _:
            return Row(identity, Level.WARN, f"{sysctl} cannot be read: IPv{family} is off in this kernel")


def nat_port_row(nat_ports: PortRange, local_ports: tuple[int, int] | None) -> Row:
    """Whether FullNAT's source ports stay clear of those that local sockets get."""
    if local_ports is None:
        return Row("nat-ports", Level.WARN, "net.ipv4.ip_local_port_range cannot be read")
    first, last = local_ports
    if nat_ports.last < first or last < nat_ports.first:
        return Row("nat-ports", Level.OK, f"NAT ports {nat_ports} are clear of local ports {first}-{last}")
    return Row(
        "nat-ports",
        Level.FAIL,
        f"NAT ports {nat_ports} overlap net.ipv4.ip_local_port_range {first}-{last}",
        f"give a range outside of it with --nat-ports (SLUICEGATE_NAT_PORTS), for instance {_clear_range(first, last)}",
    )


def _clear_range(first: int, last: int) -> str:
    """The larger side of the unprivileged ports that the local range leaves."""
    below, above = PortRange(1024, first - 1), PortRange(last + 1, 65535)
    return str(max(below, above, key=lambda ports: ports.last - ports.first))


def _engine(facts: Facts) -> Row:
    if not facts.engine:
        return Row("dpi-engine", Level.OK, "the engine of sniffers is built")
    return Row("dpi-engine", Level.WARN, f"sniffers look into nothing: {facts.engine}", "make setup")


def _classification(facts: Facts) -> Row:
    if not facts.classification:
        return Row("dpi-classification", Level.OK, "nDPI is there: sniffers tell protocols apart")
    return Row(
        "dpi-classification", Level.WARN, f"sniffers find signatures alone: {facts.classification}", "make setup"
    )


def _interface(interface: InterfaceFacts) -> Row:
    identity = f"interface-{interface.name}"
    kind = interface.kind or "hardware"
    text = (
        f"{interface.name}: driver {interface.driver or 'unknown'} ({kind}), MTU {interface.mtu}, "
        f"{'takes' if interface.takes_redirect else 'takes no'} redirected frames"
        f"{', default route' if interface.default_route else ''}"
        f"{'; programs on it: ' + ', '.join(interface.programs) if interface.programs else ''}"
    )
    if not interface.up:
        return Row(identity, Level.WARN, f"{text}, down", f"ip link set {interface.name} up")
    if interface.mtu < _SMALLEST_MTU:
        return Row(
            identity,
            Level.WARN,
            f"{text}: IPv6 needs an MTU of {_SMALLEST_MTU}",
            f"ip link set {interface.name} mtu 1500",
        )
    return Row(identity, Level.OK, text)
