"""What the operator and the agents write to each other: digests, groups, slices, bundles and bitmaps."""

from __future__ import annotations

import json
import zlib
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sluicegate_api import rulebundle
from sluicegate_api.addresspool import AddressPoolSpec
from sluicegate_api.common import LabelSelector
from sluicegate_api.configslice import ConfigSliceSpec, Head, Kind, Part, heads_revision, revision_of
from sluicegate_api.digests import canonical_json, digest
from sluicegate_api.groups import canonical_selector, group_of, selects
from sluicegate_api.members import Member, members_digest, wire
from sluicegate_api.nodestate import decode_bits, encode_bits
from sluicegate_api.rulebundle import BundleError, bundle_digest, bundle_name, pack, unpack


def selector(**fields: object) -> LabelSelector:
    return LabelSelector.model_validate(fields)


def member(address: str = "10.0.0.5", *ports: int, **fields: object) -> Member:
    return Member.model_validate({"address": address, "ports": ports or (80,), **fields})


def head(uid: str = "u1", **fields: object) -> Head:
    shown = {"kind": Kind.LOAD_BALANCER, "namespace": "shop", "name": "web", "uid": uid, "generation": 1, "spec": {}}
    return Head.model_validate(shown | fields)


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert canonical_json({"b": "ü", "a": None}) == '{"a":null,"b":"ü"}'.encode()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (None, selector()),
        (None, selector(matchLabels={})),
        (
            selector(matchLabels={"role": "edge"}),
            selector(matchExpressions=[{"key": "role", "operator": "In", "values": ["edge"]}]),
        ),
        (
            selector(matchExpressions=[{"key": "zone", "operator": "NotIn", "values": ["b", "a"]}]),
            selector(matchExpressions=[{"key": "zone", "operator": "NotIn", "values": ["a", "b", "a"]}] * 2),
        ),
    ],
)
def test_selectors_that_say_the_same_make_one_group(one: LabelSelector | None, other: LabelSelector | None) -> None:
    assert group_of(one) == group_of(other)


def test_selectors_that_differ_make_different_groups() -> None:
    exists = selector(matchExpressions=[{"key": "role", "operator": "Exists"}])
    found = {group_of(each) for each in (None, exists, selector(matchLabels={"role": ""}))}
    assert len(found) == 3
    assert canonical_selector(exists) == [["role", "Exists", []]]


@pytest.mark.parametrize(
    ("condition", "labels", "holds"),
    [
        ({"key": "role", "operator": "In", "values": ["a", "b"]}, {"role": "b"}, True),
        ({"key": "role", "operator": "In", "values": ["a"]}, {}, False),
        ({"key": "role", "operator": "NotIn", "values": ["a"]}, {}, True),
        ({"key": "role", "operator": "NotIn", "values": ["a"]}, {"role": "a"}, False),
        ({"key": "role", "operator": "Exists"}, {"role": ""}, True),
        ({"key": "role", "operator": "Exists"}, {}, False),
        ({"key": "role", "operator": "DoesNotExist"}, {}, True),
        ({"key": "role", "operator": "DoesNotExist"}, {"role": ""}, False),
    ],
)
def test_conditions_hold_as_in_kubernetes(condition: dict[str, object], labels: dict[str, str], holds: bool) -> None:
    assert selects(selector(matchExpressions=[condition]), labels) is holds
    assert selects(selector(matchLabels={"zone": "x"}, matchExpressions=[condition]), labels) is False


def test_everything_is_selected_by_no_selector_and_by_an_empty_one() -> None:
    assert selects(None, {})
    assert selects(selector(), {"role": "edge"})


def test_the_digest_of_members_does_not_depend_on_their_slices() -> None:
    members = [member("10.0.0.5"), member("10.0.0.6", weight=3), member("fd00::5", 80, 0)]
    assert members_digest(members) == members_digest(members[::-1])
    assert members_digest(members) != members_digest(members[:2])


def test_members_are_written_without_defaults() -> None:
    assert wire(member("10.0.0.5", 80, weight=100)) == {"address": "10.0.0.5", "ports": [80]}
    assert Member.model_validate(wire(member("fd00::5", 80, 0, draining=True, pod="web-1"))).draining


def test_a_change_of_members_leaves_the_first_half_of_the_revision() -> None:
    one, other = Part(uid="u1", members=(member(),)), Part(uid="u1", members=(member("10.0.0.6"),))
    before, after = revision_of([head()], [one]), revision_of([head()], [other])
    assert before != after
    assert heads_revision(before) == heads_revision(after)
    assert heads_revision(revision_of([head(generation=2)], [one])) != heads_revision(before)


def test_entries_are_heads_and_then_members() -> None:
    parts = (Part(uid="u2", members=(member(), member("10.0.0.6"))), Part(uid="u1", members=(member("10.0.0.7"),)))
    heads = (head("u1"), head("u2"))
    spec = ConfigSliceSpec(format=1, group=group_of(None), revision=revision_of(heads, parts), heads=heads, parts=parts)
    assert [(uid, each and str(each.address)) for uid, each in spec.entries()] == [
        ("u1", None),
        ("u2", None),
        ("u2", "10.0.0.5"),
        ("u2", "10.0.0.6"),
        ("u1", "10.0.0.7"),
    ]
    assert spec.size == 5
    assert ConfigSliceSpec.model_validate(wire(spec)) == spec


@given(st.sets(st.integers(0, 99)))
def test_bitmaps_come_back_and_are_short(bits: set[int]) -> None:
    text = encode_bits(bits)
    assert set(decode_bits(text)) == bits
    assert len(text) <= 20


def test_what_is_no_bitmap_is_an_error() -> None:
    with pytest.raises(ValueError, match="is no bitmap"):
        list(decode_bits("%%"))


def test_rules_come_back_from_their_bundles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rulebundle, "LARGEST_PART", 64)
    text = "\n".join(f'alert tcp any any -> any any (msg:"ü {number}"; sid:{number};)' for number in range(1, 40))
    parts = pack(text)
    assert len(parts) > 2
    assert {each.digest for each in parts} == {bundle_digest(text)}
    assert unpack(parts[::-1]) == text
    assert pack(text) == parts
    assert bundle_name(parts[1].digest, 1) == f"{bundle_digest(text)}-1"
    with pytest.raises(BundleError, match="not all parts"):
        unpack(parts[1:])
    with pytest.raises(BundleError, match="not all parts"):
        unpack([])


def test_a_bundle_that_does_not_fit_its_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    (part,) = pack("alert")
    (other,) = pack("drop")
    with pytest.raises(BundleError, match="named by"):
        unpack([part.model_copy(update={"data": other.data})])
    with pytest.raises(BundleError, match="cannot be unpacked"):
        unpack([part.model_copy(update={"data": part.data[4:]})])
    monkeypatch.setattr(rulebundle, "LARGEST_TEXT", 4)
    with pytest.raises(BundleError, match="longer than 4 bytes"):
        unpack([part])


def test_a_text_that_would_fill_the_api_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rulebundle, "LARGEST_PART", 8)
    monkeypatch.setattr(zlib, "compress", lambda raw, _level: raw)
    with pytest.raises(BundleError, match="at most"):
        pack("x" * 1000)


def test_a_pool_admits_by_name_and_by_label() -> None:
    open_to_all = AddressPoolSpec.model_validate({"cidrs": ["203.0.113.0/24", "2001:db8::/64"]})
    assert open_to_all.admits("shop", {})
    assert open_to_all.holds(ip_address("203.0.113.9"))
    assert open_to_all.holds(ip_address("2001:db8::9"))
    assert not open_to_all.holds(ip_address("192.0.2.1"))
    named = AddressPoolSpec.model_validate(
        {"cidrs": ["203.0.113.0/24"], "namespaces": ["shop"], "namespaceSelector": {"matchLabels": {"tier": "edge"}}}
    )
    assert named.admits("shop", {})
    assert named.admits("other", {"tier": "edge"})
    assert not named.admits("other", {})


def test_a_pool_names_a_network_once() -> None:
    with pytest.raises(ValidationError, match=r"already listed in cidrs\[0\]"):
        AddressPoolSpec.model_validate({"cidrs": ["203.0.113.0/24", "203.0.113.0/24"]})
    with pytest.raises(ValidationError, match=r"already listed in namespaces\[0\]"):
        AddressPoolSpec.model_validate({"cidrs": ["203.0.113.0/24"], "namespaces": ["a", "a"]})


def test_the_largest_slice_of_members_stays_small() -> None:
    members = tuple(member(f"2001:db8:1234:5678::{number:x}", 8080, 8443) for number in range(100))
    assert len(json.dumps(wire(Part(uid="u" * 36, members=members)))) < 10 * 1024
