"""Which number a sniffer has, and which interfaces it gets."""

from pathlib import Path

import pytest

from sluicegate_agent.datapath.model import InterfaceIndex
from sluicegate_agent.network.model import Link, NetworkSnapshot
from sluicegate_agent.sniffing import model
from sluicegate_agent.sniffing.assignment import MOST_SNIFFERS, TAPS, assign
from sluicegate_agent.sniffing.numbers import NumberStore
from sluicegate_api.common import ObjectKey
from sluicegate_api.dpisniffer import DpiSniffer


def sniffer(name: str, *interfaces: str, namespace: str = "shop") -> DpiSniffer:
    attach = {"interfaces": list(interfaces)} if interfaces else {}
    return DpiSniffer.model_validate({"metadata": {"name": name, "namespace": namespace}, "spec": {"attach": attach}})


def network(*names: str, default: str | None = None, step: int = 1) -> NetworkSnapshot:
    links = {
        InterfaceIndex(2 + step * place): Link(
            InterfaceIndex(2 + step * place), name, "", 1500, bytes(6), up=True, ethernet=True, takes_redirect=True
        )
        for place, name in enumerate(names)
    }
    return NetworkSnapshot(
        links=links, default_interfaces=frozenset(index for index, link in links.items() if link.name == default)
    )


EDGE, ALSO = ObjectKey("shop", "edge"), ObjectKey("shop", "also")


def test_the_kernels_limits_are_the_same() -> None:
    assert (MOST_SNIFFERS + 1, TAPS) == (model.SNIFFERS, model.TAPS)


def test_without_names_it_sniffs_where_default_routes_are_and_never_at_loopback() -> None:
    place = assign([sniffer("edge")], network("eth0", "eth1", default="eth1"), {})[EDGE]
    assert dict(place.interfaces) == {3: "it holds a default route"}
    place = assign([sniffer("edge", "*")], network("eth0", "lo"), {})[EDGE]
    assert set(place.interfaces) == {2}


def test_an_interface_that_is_not_there_is_a_problem_and_not_the_end() -> None:
    place = assign([sniffer("edge", "eth0", "wan*")], network("eth0"), {})[EDGE]
    assert set(place.interfaces) == {2}
    assert place.problems == ("spec.attach.interfaces[1]: no interface is called wan*; it is used once it appears",)
    nowhere = assign([sniffer("edge")], network("eth0"), {})[EDGE]
    assert not nowhere.interfaces
    assert "no interface holds a default route" in nowhere.problems[0]


def test_two_sniffers_of_one_interface_are_told_apart_by_name_whatever_their_order() -> None:
    one, other = sniffer("edge", "eth0"), sniffer("also", "eth*")
    for order in ([one, other], [other, one]):
        places = assign(order, network("eth0", "eth1"), {})
        assert set(places[ALSO].interfaces) == {2, 3}
        assert not places[EDGE].interfaces
        assert places[EDGE].problems == ("interface eth0 is sniffed by shop/also: one sniffer per interface",)
        assert set(places[EDGE].lost) == {2}


def test_names_of_other_namespaces_are_not_told() -> None:
    places = assign([sniffer("edge", "eth0"), sniffer("a", "eth0", namespace="bank")], network("eth0"), {})
    assert "bank" not in places[EDGE].problems[0]


def test_a_sniffer_keeps_its_number_and_a_freed_one_is_given_out_last() -> None:
    first = assign([sniffer("edge", "eth0"), sniffer("also", "eth1")], network("eth0", "eth1"), {})
    numbers = {key: place.number for key, place in first.items() if place.number}
    assert sorted(numbers.values()) == [1, 2]
    later = assign([sniffer("edge", "eth0"), sniffer("new", "eth1")], network("eth0", "eth1"), numbers)
    assert later[EDGE].number == numbers[EDGE]
    assert later[ObjectKey("shop", "new")].number == 3


def test_numbers_that_nobody_can_have_are_given_anew() -> None:
    places = assign([sniffer("edge", "eth0")], network("eth0"), {EDGE: 64})
    assert places[EDGE].number is not None
    assert 1 <= places[EDGE].number <= MOST_SNIFFERS


def test_more_sniffers_than_there_are_numbers_wait_and_say_so() -> None:
    many = [sniffer(f"s{number:03}", "eth0") for number in range(MOST_SNIFFERS + 1)]
    places = assign(many, network("eth0"), {})
    assert sorted(place.number for place in places.values() if place.number) == list(range(1, MOST_SNIFFERS + 1))
    last = places[ObjectKey("shop", f"s{MOST_SNIFFERS:03}")]
    assert last.number is None
    assert "at most 63" in last.problems[0]


def test_interfaces_of_one_slot_cannot_both_be_sniffed() -> None:
    place = assign([sniffer("edge", "eth*")], network("eth0", "eth1", step=TAPS), {})[EDGE]
    assert set(place.interfaces) == {2}
    assert "cannot both be sniffed" in place.problems[0]


def test_numbers_survive_a_restart(tmp_path: Path) -> None:
    NumberStore(tmp_path).save({EDGE: 3, ALSO: 7})
    assert NumberStore(tmp_path).load() == {EDGE: 3, ALSO: 7}
    NumberStore(tmp_path).remove()
    assert NumberStore(tmp_path).load() == {}


@pytest.mark.parametrize("text", ["", "{}", "nonsense", '{"sniffers": {"shop/edge": "x"}}'])
def test_numbers_that_make_no_sense_are_left_aside(tmp_path: Path, text: str) -> None:
    (tmp_path / "sniffers.json").write_text(text)
    assert NumberStore(tmp_path).load() == {}


def test_one_number_is_nobodys_twice(tmp_path: Path) -> None:
    (tmp_path / "sniffers.json").write_text('{"sniffers": {"shop/edge": 1, "shop/also": 1}}')
    assert list(NumberStore(tmp_path).load().values()) == [1]


def test_a_store_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    NumberStore(tmp_path / "missing").save({EDGE: 1})
    assert "cannot keep the numbers" in caplog.text
