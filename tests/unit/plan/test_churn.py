"""Everything at once: edits, failures of backends and of the kernel, changes of the network, restarts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st
from plan_worlds import ETH0, ETH1, LINKS, balancer, builder, link, network, path, without_free

from sluicegate_agent.datapath.memory import MemoryDatapath
from sluicegate_agent.datapath.model import BackendId, KernelState, Table
from sluicegate_agent.datapath.protocol import DatapathError
from sluicegate_agent.health.model import HealthState
from sluicegate_agent.network.model import NetworkSnapshot, NoPath, Path
from sluicegate_agent.planning.desired import Desired
from sluicegate_agent.planning.ids import BackendKey
from sluicegate_agent.planning.reconcile import Reconciler
from sluicegate_agent.planning.services import expand
from sluicegate_api.loadbalancer import LoadBalancer

BACKENDS = [f"10.0.0.{number}" for number in range(1, 6)]
VIPS = ["203.0.113.1", "203.0.113.2", "203.0.113.3"]
NAMES = ["a", "b"]
LIMITS: list[dict[str, object]] = [
    {},
    {},
    {"allowedSources": ["198.51.100.0/24"]},
    {"allowedSources": ["192.0.2.0/24", "2001:db8::/32"], "maxNewConnectionsPerSecond": 10},
    {"allowedSources": ["2001:db8::/32"], "sessionAffinity": {"type": "ClientIP"}},
]


@dataclass
class Moment:
    """What holds until the next event. ``refusals`` answers the kernel's operations in turn."""

    balancers: list[LoadBalancer]
    network: NetworkSnapshot
    down: frozenset[str] = frozenset()
    seconds: float = 0.0
    restart: bool = False
    refusals: list[bool] = field(default_factory=list)

    @property
    def health(self) -> dict[BackendKey, HealthState]:
        keys = (each.key for one in self.balancers for service in expand(one) for each in service.backends)
        return {key: HealthState.DOWN if str(key.address) in self.down else HealthState.UP for key in keys}


@st.composite
def configurations(draw: st.DrawFn) -> list[LoadBalancer]:
    owners = {vip: draw(st.sampled_from([None, *NAMES])) for vip in VIPS}
    return [
        balancer(
            name,
            draw(st.dictionaries(st.sampled_from(BACKENDS), st.sampled_from([0, 1, 100]), min_size=1)),
            addresses=vips,
            ports=[{"name": "http", "port": 80}],
            algorithm=draw(st.sampled_from(["RoundRobin", "RoundRobin", "Maglev", "LeastLoad"])),
            forwarding={"mode": draw(st.sampled_from(["FullNAT", "FullNAT", "DNAT", "DirectReturn"]))},
            drainSeconds=draw(st.sampled_from([0, 30])),
            **draw(st.sampled_from(LIMITS)),
        )
        for name in NAMES
        if (vips := [vip for vip, owner in owners.items() if owner == name])
    ]


@st.composite
def networks(draw: st.DrawFn) -> NetworkSnapshot:
    ways: dict[str, Path | NoPath] = {}
    for address in BACKENDS:
        way = draw(st.sampled_from(["direct", "direct", "uplink", "unresolved", "routed", "none", "unknown"]))
        if way == "none":
            ways[address] = NoPath("no route")
        elif way == "routed":
            ways[address] = replace(path("10.0.0.250"), onlink=False)
        elif way != "unknown":
            ways[address] = path(
                address, ETH0 if way == "uplink" else ETH1, mac=None if way == "unresolved" else b"\2\0\0\0\0\1"
            )
    gone = {key: each for key, each in LINKS.items() if key != ETH1 or draw(st.booleans())}
    changed = {**LINKS, ETH1: link(ETH1, "eth1", kind="veth", redirect=False)}
    links = draw(st.sampled_from([LINKS, LINKS, gone, changed]))
    return replace(network(ways), links=links, hop_generation=draw(st.integers(0, 70_000)))


def moments() -> st.SearchStrategy[Moment]:
    return st.builds(
        Moment,
        configurations(),
        networks(),
        st.frozensets(st.sampled_from(BACKENDS)),
        st.sampled_from([0.0, 1.0, 31.0]),
        st.booleans(),
        st.lists(st.booleans(), max_size=10),
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(moments(), min_size=1, max_size=6))
def test_the_tables_follow_whatever_happens_and_every_step_is_safe(history: list[Moment]) -> None:
    datapath, makes, now = MemoryDatapath(), builder(backends=16), 0.0
    reconciler = Reconciler(datapath)
    for moment in history:
        now += moment.seconds
        if moment.restart:
            makes, reconciler = builder(backends=16), Reconciler(datapath)
        answers = iter(moment.refusals)
        datapath.fail = lambda _, answers=answers: DatapathError("on command") if next(answers, False) else None
        arguments = moment.balancers, moment.network, moment.health
        reconciler.reconcile(makes.build(*arguments, reconciler.observed(), now).state)
        datapath.fail = lambda _: None
        for _ in range(3):
            desired = makes.build(*arguments, reconciler.observed(), now)
            report = reconciler.reconcile(desired.state)
        assert report.converged
        assert report.applied == ()
        assert without_free(datapath.observe()) == desired.state
        assert {str(vip.address) for vip in desired.state.vips} == {
            str(vip) for each in moment.balancers for vip in each.spec.addresses
        }


def configured(desired: Desired) -> dict[BackendKey, BackendId | None]:
    """Ids of backends that do not leave."""
    return {key: outcome.id for key, outcome in desired.backends.items() if outcome.drained_at is None}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(configurations(), st.booleans()), min_size=2, max_size=6))
def test_a_backend_that_stays_configured_keeps_its_row_through_edits_and_restarts(
    history: list[tuple[list[LoadBalancer], bool]],
) -> None:
    datapath, makes = MemoryDatapath(), builder()
    reconciler = Reconciler(datapath)
    before, previous = makes.build([], network(BACKENDS), {}, KernelState(), 0.0), list[LoadBalancer]()
    for balancers, restart in history:
        same_modes = {service.identity for service in before.services}
        if restart:
            makes, reconciler = builder(), Reconciler(datapath)
            again = makes.build(previous, network(BACKENDS), {}, reconciler.observed(), 0.0)
            assert (again.names.frontends, again.names.services) == (before.names.frontends, before.names.services)
            assert configured(again) == configured(before)
        desired = makes.build(balancers, network(BACKENDS), {}, reconciler.observed(), 0.0)
        reconciler.reconcile(desired.state)
        identities = {service.key for service in desired.services if service.identity in same_modes}
        for key, outcome in desired.backends.items():
            if key.service in identities and key in before.backends and before.backends[key].id is not None:
                assert outcome.id == before.backends[key].id
        before, previous = desired, balancers


def test_backends_of_one_service_are_not_written_when_another_is_edited() -> None:
    datapath, makes = MemoryDatapath(), builder()
    reconciler = Reconciler(datapath)
    still = balancer("still", BACKENDS[:2])
    for backends in (["10.0.0.3"], ["10.0.0.4", "10.0.0.5"], ["10.0.0.1"]):
        edited = balancer("edited", backends, addresses=["203.0.113.99"])
        desired = makes.build([edited, still], network(BACKENDS), {}, reconciler.observed(), 0.0)
        own = {identity for identity, key in desired.names.backends.items() if key.service.object == still.key}
        report = reconciler.reconcile(desired.state)
        written = {each.key for each in report.applied if each.table is Table.BACKENDS}
        assert backends == ["10.0.0.3"] or not own & written
