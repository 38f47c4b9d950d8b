"""What the kernel knows of one packet's way, gathered at one moment. Blocking; for the kernel's thread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network

from sluicegate_agent.attach import Attached, Mode
from sluicegate_agent.control.questions import PacketQuestion
from sluicegate_agent.datapath.flowdump import dump_flows
from sluicegate_agent.datapath.flowquery import FlowFilter, FlowRow, FlowState
from sluicegate_agent.datapath.flows import FlowRules
from sluicegate_agent.datapath.model import (
    Backend,
    BackendId,
    Frontend,
    FrontendId,
    InterfaceFlag,
    InterfaceIndex,
    IPAddress,
    IPNetwork,
    KernelState,
    Nexthop,
    NexthopId,
    Settings,
)
from sluicegate_agent.datapath.tables import KernelTables
from sluicegate_agent.inspection.trial import Bench, Trial, packet_for, try_new_flow
from sluicegate_agent.kernel.clock import hertz, jiffies
from sluicegate_agent.kernel.libbpf import KernelError
from sluicegate_agent.loader.manifest import Manifest
from sluicegate_agent.network.model import NoPath, Path
from sluicegate_agent.network.netlink import NetlinkError
from sluicegate_agent.network.reader import Reader

_ALL_STATES = frozenset(FlowState)
_WORD = 1 << 32


@dataclass(frozen=True, slots=True)
class Admission:
    """What new flows of a service met right now: half-open ones, and whether the rate of new ones is used up."""

    half_open: int = 0
    rate_is_used_up: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """The frontend of the VIP, and all rows that a packet of this client meets from there on.

    ``sources`` is None when every client may open flows. ``table`` are the backends in the selection table.
    """

    id: FrontendId
    row: Frontend
    flow: FlowRow | None
    sources: frozenset[IPNetwork] | None
    admission: Admission
    table: frozenset[BackendId]
    backends: Mapping[BackendId, Backend]
    nexthops: Mapping[NexthopId, Nexthop]


@dataclass(frozen=True, slots=True)
class Evidence:
    """``path`` leads back to the client; ``ingress`` is where its packets come in, as far as that tells.

    For a client on this node ``from_here`` is true: its packets are met where they leave, at ``ingress`` all the same,
    to which ``exit`` leads; it says why where nothing leads to the VIP.
    ``target`` is None when nothing balances the VIP's port. ``trial`` is None when no program could be run on a
    packet: ``obstacle`` then says why.
    """

    path: Path | NoPath
    ingress: InterfaceIndex | None
    settings: Settings = field(default_factory=Settings)
    target: Target | None = None
    trial: Trial | None = None
    obstacle: str = ""
    from_here: bool = False
    exit: Path | NoPath | None = None


def gather(
    question: PacketQuestion,
    attached: Mapping[InterfaceIndex, Attached],
    manifest: Manifest,
    state: KernelState,
    *,
    arrival: InterfaceIndex | None = None,
) -> Evidence:
    """Look everything up, then run the programs of the ingress interface on a packet.

    ``arrival`` is the interface to take when there is no way back to the client. Raises KernelError.
    """
    path = _path_to(question.client)
    from_here = isinstance(path, Path) and path.local
    exit_ = _path_to(question.vip.address) if from_here else None
    ingress = path.ifindex if isinstance(path, Path) else arrival
    if exit_ is not None:
        ingress = exit_.ifindex if isinstance(exit_, Path) else None
    with KernelTables(manifest) as tables:
        target = _target(tables, question, state)
        met = attached.get(ingress) if ingress else None
        bench, obstacle = _bench(met, manifest, tables, state, from_here=from_here)
        trial, obstacle = _try(bench, tables, question, target) if bench else (None, obstacle)
    return Evidence(path, ingress, state.settings, target, trial, obstacle, from_here, exit_)


def _path_to(address: IPAddress) -> Path | NoPath:
    try:
        reader = Reader()
    except OSError as error:
        return NoPath(f"the kernel does not tell its routes: {error}")
    try:
        return reader.path(address, reader.tables())
    except (OSError, NetlinkError) as error:
        return NoPath(f"the route lookup for {address} failed: {error}")
    finally:
        reader.close()


def _target(tables: KernelTables, question: PacketQuestion, state: KernelState) -> Target | None:
    identity = state.vips.get(question.vip)
    row = state.frontends.get(identity) if identity is not None else None
    if identity is None or row is None:
        return None
    backends = {key: each for key, each in state.backends.items() if each.service == row.service}
    return Target(
        id=identity,
        row=row,
        flow=_flow(tables, question, identity, state),
        sources=state.sources.get(row.service, frozenset()) if row.restricted else None,
        admission=_admission(tables, row, state.settings),
        table=frozenset(state.slots.get(row.service, ())),
        backends=backends,
        nexthops={
            each.nexthop: state.nexthops[each.nexthop] for each in backends.values() if each.nexthop in state.nexthops
        },
    )


def _flow(tables: KernelTables, question: PacketQuestion, frontend: FrontendId, state: KernelState) -> FlowRow | None:
    rules = FlowRules.of(state.frontends, tables["frontends"].capacity, state.settings, jiffies(), hertz())
    wanted = FlowFilter(
        limit=len(FlowState),
        frontends=frozenset({frontend}),
        client=ip_network(question.client),
        client_port=question.client_port,
        states=_ALL_STATES,
    )
    rows = dump_flows(tables, state, rules, wanted, hertz()).rows
    # A closed flow's port may rest while the same client has a new flow: the one with most life left is the present.
    return max(rows, key=lambda row: (row.state is not FlowState.CLOSED, -row.idle_seconds), default=None)


def _admission(tables: KernelTables, row: Frontend, settings: Settings) -> Admission:
    """As ``is_flooded()`` and ``rate_allows()`` of bpf/admission.h would find it, changing nothing."""
    found = tables["admissions"].get(row.service)
    if found is None:
        return Admission()
    now, hz = jiffies(), hertz()
    epoch_length = max(round(settings.half_open_seconds * hz) // len(found["half_open"]), 1)
    behind = now // epoch_length + 1 - int(found["epoch"])
    counts = found["half_open"].astype("<i8")
    if behind == 1:
        counts[(int(found["epoch"]) + 1) % len(counts)] = 0
    half_open = max(int(counts.sum()), 0) if behind in {0, 1} else 0
    bucket = int(found["bucket"])
    tokens = bucket % _WORD + ((now - bucket // _WORD) % _WORD) * row.rate
    capacity = max(row.rate * hz // 10, hz)
    return Admission(half_open, row.rate > 0 and min(tokens, capacity) < hz)


def _bench(
    attached: Attached | None, manifest: Manifest, tables: KernelTables, state: KernelState, *, from_here: bool
) -> tuple[Bench | None, str]:
    """The programs as they run on the interface, or why they cannot be run on a made-up packet."""
    if attached is None:
        where = "leaves" if from_here else "comes in"
        return None, f"no program of ours runs on the interface where the packet {where}"
    interface = state.interfaces.get(attached.ifindex)
    if interface is None or InterfaceFlag.L3 in interface.flags:
        return None, f"a packet for {attached.name}, which has no Ethernet header, cannot be made up"
    hooks: tuple[str, ...] = ("xdp", "tc_ingress") if attached.mode is Mode.XDP else ("tc_ingress",)
    if from_here:
        hooks = ("tc_egress",)
    return Bench(manifest, tables, attached.ifindex, interface.mac, hooks), ""


def _try(
    bench: Bench, tables: KernelTables, question: PacketQuestion, target: Target | None
) -> tuple[Trial | None, str]:
    flow = target.flow if target else None
    try:
        if target is not None and flow is None:
            return try_new_flow(bench, tables, question, target.id, target.row), ""
        return bench.send(question, packet_for(question.vip.protocol, flow.state if flow else None)), ""
    except KernelError as error:
        return None, f"the kernel refused to run the program on a packet: {error}"
