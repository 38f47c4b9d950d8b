"""Lines of the log about what changed."""

from dataclasses import replace

from sniffing_moments import sniffer
from surface_moments import ETH0, configured, document, moment, network

from sluicegate_agent.reports.narrate import configuration_changes, transitions
from sluicegate_agent.reports.situation import Situation

TWO_FAMILIES = {
    "addresses": ["203.0.113.10", "2001:db8::10"],
    "backends": {"static": [{"address": "10.0.0.1"}, {"address": "fd00::1"}]},
}


def test_load_balancers_that_come_change_and_go_are_told() -> None:
    before = configured(document(), document("old", addresses=["203.0.113.20"]))
    after = configured(document(drainSeconds=5), document("new", addresses=["203.0.113.30"]))
    assert sorted(configuration_changes(before, after)) == [
        "load balancer shop/new is new",
        "load balancer shop/old is gone",
        "load balancer shop/web changed",
    ]
    assert not list(configuration_changes(after, after))


def test_sniffers_that_come_change_and_go_are_told() -> None:
    before = configured(document("edge"), sniffer(), sniffer("old"))
    after = configured(document("edge"), sniffer(budget={"maxPackets": 99}), sniffer("new"))
    assert sorted(configuration_changes(before, after)) == [
        "sniffer shop/edge changed",
        "sniffer shop/new is new",
        "sniffer shop/old is gone",
    ]


def test_the_first_step_tells_interfaces_vips_and_backends_of_both_families() -> None:
    lines = list(transitions(Situation(), moment(configured(document(**TWO_FAMILIES)))))
    assert "interface eth0: xdp" in lines
    assert "VIP 203.0.113.10:80/TCP is balanced" in lines
    assert "VIP [2001:db8::10]:80/TCP is balanced" in lines
    assert "backend shop/web http 10.0.0.1:8080: active" in lines
    assert "backend shop/web http [fd00::1]:8080: active" in lines


def test_nothing_changed_is_not_worth_a_line() -> None:
    situation = moment(configured(document()))
    assert not list(transitions(situation, situation))


def test_a_backend_that_goes_down_or_loses_its_route_is_told_with_the_reason() -> None:
    before = moment(configured(document()))
    down = moment(configured(document()), down={"10.0.0.1": "connection refused"})
    assert list(transitions(before, down)) == ["backend shop/web http 10.0.0.1:8080: down (connection refused)"]
    lost = moment(configured(document()), snapshot=network(unreachable={"10.0.0.1": "no route"}))
    assert any("10.0.0.1:8080" in line and "(no route)" in line for line in transitions(before, lost))


def test_what_leaves_the_kernel_is_told() -> None:
    before = moment(configured(document()))
    after = replace(Situation(), attached={key: each for key, each in before.attached.items() if key != ETH0})
    assert list(transitions(before, after)) == [
        "interface eth0: programs removed",
        "VIP 203.0.113.10:80/TCP is not balanced any more",
        "backend shop/web http 10.0.0.1:8080: gone",
        "backend shop/web http 10.0.0.2:8080: gone",
    ]
