"""The last step: which hook may send a rewritten packet, by which way, and what is refused there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from bench import (
    B0_MAC,
    BACKEND_MAC,
    BACKEND_PORT,
    BACKENDS,
    C0_MAC,
    CLIENT,
    CLIENT_MAC,
    REDIRECT,
    SOURCE,
    VIP,
    VIP_PORT,
    XDP_TX,
    Bench,
    Hook,
    ip,
    set_forwarding,
)
from frames import mac, reply, request, rewritten
from marks import FAMILIES, HOOKS, PROTOCOLS, TRANSLATING
from services import SETTINGS, setup_node, setup_service
from sluicegate_agent.datapath.model import (
    Delete,
    ForwardingMode,
    InterfaceFlag,
    InterfaceIndex,
    Nexthop,
    Protocol,
    Put,
    Settings,
    Table,
)
from sluicegate_agent.kernel.libbpf import Program
from sluicegate_agent.loader.manifest import Manifest

pytestmark = pytest.mark.kernel

STRANGER = {4: "10.1.0.77", 6: "fd01::77"}  # on the clients' network, its MAC address not known
FAR_AWAY = {4: "192.0.2.7", 6: "2001:db8:7::7"}  # no route leads there


@pytest.fixture
def changed_network(own_network: None) -> Iterator[None]:
    """The test may change neighbours of clients and switch forwarding off."""
    yield
    set_forwarding(on=True)
    ip(*(f"neigh replace {address} lladdr {CLIENT_MAC} dev c0 nud permanent" for address in CLIENT.values()))


@dataclass(frozen=True, slots=True)
class Case:
    """A request over a next hop: what XDP and tc do with it."""

    sentence: str
    nexthop: Callable[[Nexthop], Nexthop]
    xdp: str
    tc: str
    payload: int = 0
    hops: int = 64

    def __str__(self) -> str:
        return self.sentence.replace(" ", "-")


CASES = [
    Case("a known neighbour", lambda row: row, "forwarded_request", "forwarded_request"),
    Case(
        "an unresolved neighbour",
        lambda row: replace(row, destination_mac=None),
        "neighbour_unresolved",
        "forwarded_request",
    ),
    Case(
        "a device that takes no redirected frames",
        lambda row: replace(row, xdp=False),
        "no_redirect",
        "forwarded_request",
    ),
    Case("a packet as large as the MTU", lambda row: row, "forwarded_request", "forwarded_request", payload=1440),
    Case(
        "a packet over the MTU",
        lambda row: replace(row, mtu=1400),
        "reported_too_big",
        "reported_too_big",
        payload=1440,
    ),
    Case("the last hop", lambda row: row, "ttl_exceeded", "ttl_exceeded", hops=1),
    Case("no hop left", lambda row: row, "ttl_exceeded", "ttl_exceeded", hops=0),
    Case("one hop left after this", lambda row: row, "forwarded_request", "forwarded_request", hops=2),
]


@HOOKS
@FAMILIES
@TRANSLATING
@pytest.mark.parametrize("known", [False, True], ids=["new flow", "known flow"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_towards_a_backend(
    bench: Bench, hook: Hook, family: int, mode: ForwardingMode, known: bool, case: Case
) -> None:
    setup_service(bench, family=family, mode=mode, nexthop=case.nexthop)
    if known:
        bench.send(hook, request(family))
    payload = bytes(case.payload - (20 if family == 6 else 0)) if case.payload else b""

    outcome = bench.send(hook, request(family, payload=payload, hops=case.hops))

    assert outcome.reason == (case.xdp if hook is Hook.XDP else case.tc)
    if outcome.reason == "forwarded_request":
        assert outcome.action == REDIRECT[hook]
    if outcome.reason == "ttl_exceeded":
        assert bench.datapath.counters().frontends[1].dropped == 1


@HOOKS
@FAMILIES
@pytest.mark.parametrize("hardware", [False, True], ids=["virtual devices", "hardware"])
def test_a_backend_on_the_ingress_interface_is_sent_back_there(
    bench: Bench, hardware_manifest: Manifest, hook: Hook, family: int, hardware: bool
) -> None:
    setup_service(bench, family=family)
    if hardware:
        bench.programs[Hook.XDP].close()
        bench.programs[Hook.XDP] = Program.open(hardware_manifest.programs["xdp_main"].path)
    frame = mac(B0_MAC) + request(family)[6:]

    outcome = bench.send(hook, frame, "b0")

    assert outcome.reason == "forwarded_request"
    assert outcome.action == (XDP_TX if hardware and hook is Hook.XDP else REDIRECT[hook])
    assert outcome.frame == rewritten(
        frame,
        source=SOURCE[family],
        destination=BACKENDS[family][0],
        sport=outcome.source_port,
        dport=BACKEND_PORT,
        eth=(B0_MAC, BACKEND_MAC) if hook is Hook.XDP else None,
    )


@HOOKS
def test_a_batch_of_segments_may_be_larger_than_the_mtu(bench: Bench, hook: Hook) -> None:
    """GRO hands batches to tc, which are cut again on their way out; XDP comes before GRO."""
    setup_service(bench, family=4)
    bench.send(hook, request(4))
    frame = request(4, flags="A", payload=bytes(3000))

    outcome = bench.send(hook, frame, gso_size=1448 if hook is Hook.TC else 0)

    assert outcome.reason == ("forwarded_request" if hook is Hook.TC else "reported_too_big")


def answer_to(
    bench: Bench,
    hook: Hook,
    family: int,
    mode: ForwardingMode,
    *,
    client: str | None = None,
    opened_by: Hook = Hook.TC,
    payload: bytes = b"",
    hops: int = 64,
) -> tuple[str, bytes, bytes]:
    """Open a flow of a client and let the backend answer; (reason, the backend's frame, the frame that left)."""
    client = client or CLIENT[family]
    opened = bench.send(opened_by, request(family, client=client))
    assert opened.reason == "forwarded_request"
    to = SOURCE[family] if mode is ForwardingMode.FULL_NAT else client
    frame = reply(family, to_port=opened.source_port, to=to, payload=payload, hops=hops)
    outcome = bench.send(hook, frame, "b0")
    return outcome.reason, frame, outcome.frame


@HOOKS
@FAMILIES
@TRANSLATING
def test_a_client_whose_neighbour_is_unresolved_is_left_to_tc(
    bench: Bench, hook: Hook, family: int, mode: ForwardingMode
) -> None:
    setup_service(bench, family=family, mode=mode)

    reason, frame, left = answer_to(bench, hook, family, mode, client=STRANGER[family])

    if hook is Hook.XDP:
        assert reason == "neighbour_unresolved"
        return
    assert reason == "forwarded_reply"
    addresses = {"source": VIP[family], "destination": STRANGER[family]}
    assert left == rewritten(frame, **addresses, sport=VIP_PORT, dport=40000, eth=None)


@HOOKS
@FAMILIES
@TRANSLATING
def test_a_clients_device_that_takes_no_redirected_frames_is_left_to_tc(
    bench: Bench, hook: Hook, family: int, mode: ForwardingMode
) -> None:
    setup_service(bench, family=family, mode=mode)
    setup_node(bench, flags=InterfaceFlag(0))

    reason, frame, left = answer_to(bench, hook, family, mode)

    if hook is Hook.XDP:
        assert reason == "no_redirect"
        return
    assert reason == "forwarded_reply"
    addresses = {"source": VIP[family], "destination": CLIENT[family]}
    assert left == rewritten(frame, **addresses, sport=VIP_PORT, dport=40000, eth=(C0_MAC, CLIENT_MAC))


@HOOKS
@FAMILIES
@TRANSLATING
@pytest.mark.parametrize(
    ("client", "payload", "hops", "reason"),
    [
        (FAR_AWAY, 0, 64, "no_route"),
        (CLIENT, 0, 1, "ttl_exceeded"),
        (CLIENT, 1460, 64, "reported_too_big"),
        (CLIENT, 1420, 64, "forwarded_reply"),
    ],
    ids=["no route", "last hop", "over the MTU", "within the MTU"],
)
def test_towards_a_client(
    bench: Bench,
    hook: Hook,
    family: int,
    mode: ForwardingMode,
    client: dict[int, str],
    payload: int,
    hops: int,
    reason: str,
) -> None:
    setup_service(bench, family=family, mode=mode)
    data = bytes(payload + (1 if reason == "reported_too_big" else 0))

    assert answer_to(bench, hook, family, mode, client=client[family], payload=data, hops=hops)[0] == reason


@HOOKS
@FAMILIES
def test_a_device_without_a_row_gets_no_more_than_the_least_mtu(bench: Bench, hook: Hook, family: int) -> None:
    setup_service(bench, family=family)
    bench.apply(Delete(Table.INTERFACES, InterfaceIndex(bench.ifindex["c0"])))

    assert answer_to(bench, hook, family, ForwardingMode.FULL_NAT, payload=bytes(1300))[0] == "reported_too_big"


@HOOKS
@FAMILIES
@TRANSLATING
def test_nothing_is_sent_back_while_forwarding_is_off(
    bench: Bench, changed_network: None, hook: Hook, family: int, mode: ForwardingMode
) -> None:
    setup_service(bench, family=family, mode=mode)
    set_forwarding(on=False)

    assert answer_to(bench, hook, family, mode)[0] == "forwarding_off"


@HOOKS
@FAMILIES
@TRANSLATING
@PROTOCOLS
def test_a_clients_mac_is_asked_for_again_when_the_network_changed(
    bench: Bench, changed_network: None, hook: Hook, family: int, mode: ForwardingMode, protocol: Protocol
) -> None:
    def goes_to(settings: Settings) -> bytes:
        bench.apply(Put(Table.SETTINGS, None, settings))
        return bench.send(hook, frame, "b0").frame[:6]

    setup_service(bench, family=family, protocol=protocol, mode=mode)
    opened = bench.send(hook, request(family, protocol))
    to = SOURCE[family] if mode is ForwardingMode.FULL_NAT else CLIENT[family]
    frame = reply(family, protocol, to_port=opened.source_port, to=to)
    new_mac = "02:00:00:00:01:55"
    assert goes_to(SETTINGS) == mac(CLIENT_MAC)

    ip(f"neigh replace {CLIENT[family]} lladdr {new_mac} dev c0 nud permanent")

    assert goes_to(SETTINGS) == mac(CLIENT_MAC)
    assert goes_to(replace(SETTINGS, hop_generation=2)) == mac(new_mac)
    assert goes_to(replace(SETTINGS, hop_generation=2)) == mac(new_mac)
