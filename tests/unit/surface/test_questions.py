"""Addresses, ports and filters as people write them."""

from ipaddress import ip_address, ip_network

import pytest

from sluicegate_agent.control.questions import FlowQuestion, PacketQuestion, QuestionError, place, text_of
from sluicegate_agent.datapath.flowquery import FlowState
from sluicegate_agent.datapath.model import Endpoint, Protocol


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("10.0.0.1", "10.0.0.1", None),
        ("10.0.0.1:80", "10.0.0.1", 80),
        ("2001:db8::1", "2001:db8::1", None),
        ("[2001:db8::1]", "2001:db8::1", None),
        ("[2001:db8::1]:65535", "2001:db8::1", 65535),
    ],
)
def test_an_address_is_read_with_and_without_a_port(text: str, address: str, port: int | None) -> None:
    assert place(text, "--vip") == (ip_address(address), port)
    if port is not None:
        assert text_of(ip_address(address), port) == text


@pytest.mark.parametrize(
    "text",
    ["", "web", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:65536", "10.0.0.1:http", "10.0.0.1:٣", "[2001:db8::1", "[::1]80",
     "2001:db8::1:80:x", "10.0.0:80", "[10.0.0.1]:-1"],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_an_example_or_the_range(text: str) -> None:
    with pytest.raises(QuestionError, match=r"--vip: .*(write|brackets)"):
        place(text, "--vip")


def test_a_packet_has_two_whole_ends_of_one_family() -> None:
    question = PacketQuestion.parse({"client": "[fd01::2]:40000", "vip": "[2001:db8::10]:53", "protocol": "UDP"})
    assert question == PacketQuestion(
        ip_address("fd01::2"), 40000, Endpoint(ip_address("2001:db8::10"), Protocol.UDP, 53)
    )
    assert question.client_text == "[fd01::2]:40000"
    assert PacketQuestion.parse({"client": "10.0.0.7:1", "vip": "203.0.113.10:80"}).vip.protocol is Protocol.TCP


@pytest.mark.parametrize(
    ("client", "vip", "protocol", "words"),
    [
        ("10.0.0.7", "203.0.113.10:80", "tcp", "SRC:PORT: '10.0.0.7' has no port"),
        ("10.0.0.7:1", "203.0.113.10", "tcp", "VIP:PORT: '203.0.113.10' has no port"),
        ("10.0.0.7:1", "2001:db8::10:80", "tcp", "with brackets"),
        ("10.0.0.7:1", "[2001:db8::10]:80", "tcp", "different families"),
        ("10.0.0.7:1", "203.0.113.10:80", "sctp", "'sctp' is no protocol"),
    ],
)
def test_half_a_packet_is_refused_in_words(client: str, vip: str, protocol: str, words: str) -> None:
    with pytest.raises(QuestionError) as refused:
        PacketQuestion.parse({"client": client, "vip": vip, "protocol": protocol})
    assert words in str(refused.value)


def test_flows_can_be_chosen_by_everything_at_once_or_nothing() -> None:
    assert FlowQuestion.parse({}) == FlowQuestion()
    question = FlowQuestion.parse(
        {
            "vip": "203.0.113.10:80",
            "client": "10.1.0.5/16",
            "backend": "10.2.0.11",
            "lb": "lb/shop/web",
            "state": "half-open",
            "protocol": "tcp",
            "limit": "7",
        }
    )
    assert question == FlowQuestion(
        vip=(ip_address("203.0.113.10"), 80),
        client=ip_network("10.1.0.0/16"),
        backend=(ip_address("10.2.0.11"), None),
        balancer="shop/web",
        state=FlowState.HALF_OPEN,
        protocol=Protocol.TCP,
        limit=7,
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [("client", "10.1.0.0/33"), ("state", "open"), ("limit", "0"), ("limit", "10001"), ("limit", "many"), ("vip", "x")],
)
def test_a_filter_that_cannot_be_understood_names_its_option(name: str, text: str) -> None:
    with pytest.raises(QuestionError, match=f"--{name}: '{text}'"):
        FlowQuestion.parse({name: text})


def test_an_unknown_filter_is_refused_and_never_ignored() -> None:
    with pytest.raises(QuestionError, match="colour"):
        FlowQuestion.parse({"colour": "red"})
