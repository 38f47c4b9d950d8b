"""From a question about flows to ids, and from rows to the answer."""

from ipaddress import ip_address

import pytest
from surface_moments import configured, document, moment

from sluicegate_agent.control.questions import FlowQuestion
from sluicegate_agent.datapath.flowquery import LIVE_STATES, FlowDump, FlowRow, FlowState
from sluicegate_agent.datapath.model import BackendId, ForwardingMode, FrontendId, Protocol
from sluicegate_agent.reports.flows import flow_filter, flows_document
from sluicegate_agent.reports.situation import Situation
from sluicegate_agent.reports.targets import UnknownTargetError

PORTS = [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]


@pytest.fixture
def situation() -> Situation:
    other = document("other", addresses=["203.0.113.20"], ports=PORTS)
    return moment(configured(document(ports=PORTS), other))


def endpoints(situation: Situation, **words: str) -> set[str]:
    wanted = flow_filter(situation, FlowQuestion.parse(words))
    assert wanted.frontends is not None
    return {str(situation.desired.names.frontends[each][1]) for each in wanted.frontends}


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ({"vip": "203.0.113.10"}, {"203.0.113.10:80/TCP", "203.0.113.10:53/UDP"}),
        ({"vip": "203.0.113.10:80"}, {"203.0.113.10:80/TCP"}),
        ({"vip": "203.0.113.10:81"}, set()),
        ({"lb": "other"}, {"203.0.113.20:80/TCP", "203.0.113.20:53/UDP"}),
        ({"protocol": "udp"}, {"203.0.113.10:53/UDP", "203.0.113.20:53/UDP"}),
        ({"lb": "shop/web", "protocol": "tcp"}, {"203.0.113.10:80/TCP"}),
        ({"lb": "web", "vip": "203.0.113.20"}, set()),
    ],
)
def test_vip_protocol_and_load_balancer_choose_frontends(
    situation: Situation, words: dict[str, str], found: set[str]
) -> None:
    assert endpoints(situation, **words) == found


def test_without_a_choice_every_frontend_and_all_active_states_are_wanted(situation: Situation) -> None:
    wanted = flow_filter(situation, FlowQuestion())
    assert wanted.frontends is None
    assert wanted.states == LIVE_STATES
    assert flow_filter(situation, FlowQuestion(state=FlowState.CLOSED)).states == {FlowState.CLOSED}


def test_a_load_balancer_that_there_is_not_lists_those_that_there_are(situation: Situation) -> None:
    with pytest.raises(UnknownTargetError, match="lb/shop/web, lb/shop/other"):
        flow_filter(situation, FlowQuestion(balancer="nope"))


def row(situation: Situation, frontend: FrontendId) -> FlowRow:
    (_, vip) = situation.desired.names.frontends.get(frontend) or next(iter(situation.desired.names.frontends.values()))
    return FlowRow(
        client=ip_address("198.51.100.7"),
        client_port=40000,
        frontend=frontend,
        vip=vip,
        mode=ForwardingMode.DNAT,
        backend_id=BackendId(1),
        backend=None,
        source=None,
        source_port=None,
        state=FlowState.HALF_OPEN,
        idle_seconds=1.26,
        expires_in_seconds=28.74,
    )


def test_a_row_names_its_load_balancer_and_leaves_empty_what_it_has_not(situation: Situation) -> None:
    frontend = next(key for key, (_, vip) in situation.desired.names.frontends.items() if vip.protocol is Protocol.UDP)
    rows = (row(situation, frontend), row(situation, FrontendId(999)))
    answer = flows_document(situation, FlowQuestion(), FlowDump(rows, 2, {FlowState.HALF_OPEN: 2}))
    assert (answer["matched"], answer["truncated"], answer["note"]) == (2, False, "")
    assert answer["states"] == {"half-open": 2}
    flows = answer["flows"]
    assert isinstance(flows, list)
    assert flows[0] == {
        "protocol": "UDP",
        "client": {"address": "198.51.100.7", "port": 40000},
        "vip": {"address": "203.0.113.10", "port": 53},
        "loadBalancer": {"namespace": "shop", "name": "web", "port": "dns"},
        "backend": None,
        "mode": "DNAT",
        "source": None,
        "state": "half-open",
        "idleSeconds": 1.3,
        "expiresInSeconds": 28.7,
    }
    assert flows[1]["loadBalancer"] is None


def test_what_was_left_out_is_said_in_words(situation: Situation) -> None:
    answer = flows_document(situation, FlowQuestion(limit=0), FlowDump((), 1_000_000))
    assert answer["truncated"] is True
    assert str(answer["note"]).startswith("0 of 1000000 flows that match are shown")
