"""Who gets a VIP's port when several want it."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sluicegate_api.backends import Backends, StaticBackend
from sluicegate_api.claims import Claim, claims_of, resolve_claims
from sluicegate_api.common import ObjectKey, ObjectMeta
from sluicegate_api.loadbalancer import LoadBalancer, LoadBalancerSpec
from sluicegate_api.ports import Port, Protocol

HTTP = Claim(ip_address("203.0.113.10"), Protocol.TCP, 80)


def balancer(name: str, *ports: int, namespace: str = "shop", address: str = "203.0.113.10") -> LoadBalancer:
    return LoadBalancer(
        metadata=ObjectMeta(name=name, namespace=namespace),
        spec=LoadBalancerSpec(
            addresses=(ip_address(address),),
            ports=tuple(Port(port=port) for port in ports),
            backends=Backends(static=(StaticBackend(address=ip_address("10.0.0.5")),)),
        ),
    )


def test_the_first_in_order_gets_the_claim_and_the_other_hears_who_has_it() -> None:
    claims = resolve_claims([balancer("a", 80), balancer("b", 81, 80)], {})
    assert claims.holders[HTTP] == ObjectKey("shop", "a")
    [refusal] = claims.refusals
    assert (refusal.object, refusal.claim) == (ObjectKey("shop", "b"), HTTP)
    assert str(refusal.problem).startswith("spec.ports[1].port: 203.0.113.10:80/TCP is held by LoadBalancer shop/a")


def test_who_holds_it_keeps_it_whatever_the_order() -> None:
    claims = resolve_claims([balancer("a", 80), balancer("b", 80)], {HTTP: ObjectKey("shop", "b")})
    assert claims.holders[HTTP] == ObjectKey("shop", "b")


def test_a_holder_that_no_longer_wants_it_loses_it() -> None:
    claims = resolve_claims([balancer("a", 80), balancer("b", 81)], {HTTP: ObjectKey("shop", "b")})
    assert claims.holders[HTTP] == ObjectKey("shop", "a")
    assert claims.refusals == ()


def test_the_loser_keeps_its_other_ports() -> None:
    claims = resolve_claims([balancer("a", 80), balancer("b", 81, 80)], {})
    assert {claim.port for claim in claims.held_by(ObjectKey("shop", "b"))} == {81}


def test_names_of_other_namespaces_are_not_told() -> None:
    [refusal] = resolve_claims([balancer("secret", 80, namespace="bank"), balancer("b", 80)], {}).refusals
    assert "another namespace" in refusal.problem.reason
    assert "secret" not in refusal.problem.reason
    assert "bank" not in refusal.problem.reason


def test_protocols_and_addresses_do_not_meet(manifest: Callable[..., dict[str, Any]]) -> None:
    udp = LoadBalancer.model_validate(manifest(name="udp", ports=[{"port": 80, "protocol": "UDP"}]))
    claims = resolve_claims([balancer("tcp", 80), udp, balancer("v6", 80, address="2001:db8::10")], {})
    assert claims.refusals == ()
    assert [str(claim) for claim in claims.holders] == [
        "203.0.113.10:80/TCP",
        "203.0.113.10:80/UDP",
        "[2001:db8::10]:80/TCP",
    ]


ports = st.lists(st.integers(1, 5), min_size=1, max_size=4, unique=True)
wishes = st.lists(ports, max_size=5).map(lambda lists: [balancer(f"lb{n}", *given) for n, given in enumerate(lists)])


@given(wishes, wishes)
def test_every_claim_has_one_holder_and_deciding_again_changes_nothing(
    before: list[LoadBalancer], after: list[LoadBalancer]
) -> None:
    first = resolve_claims(before, {})
    second = resolve_claims(after, first.holders)
    wanted = {(claim, lb.key) for lb in after for claim, _ in claims_of(lb)}
    assert {claim for claim, _ in wanted} == set(second.holders)
    assert set(second.holders.items()) <= wanted
    assert {(r.claim, r.object) for r in second.refusals} == wanted - set(second.holders.items())
    for claim, holder in first.holders.items():
        if (claim, holder) in wanted:
            assert second.holders[claim] == holder
    assert resolve_claims(list(reversed(after)), second.holders).holders == second.holders
