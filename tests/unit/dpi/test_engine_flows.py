"""Flows, labels, verdicts, events; and records that contradict themselves."""

import json
import random
import ssl
import struct

import pytest
from engine_rig import (
    ALL,
    SECOND,
    SMALL,
    Pattern,
    Rig,
    Rule,
    Rules,
    Talk,
    client_hello,
    datagram,
    ndpi,
    request,
)
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.packet import Packet, Raw

from sluicegate_agent.dpi import binding, ndpi_provider, records
from sluicegate_agent.dpi.engine import (
    Action,
    End,
    Engine,
    EngineError,
    Event,
    Kind,
    Limits,
    Policy,
    Reason,
    Tables,
    available,
)
from sluicegate_agent.dpi.ndpi_provider import NdpiLibrary, NoNdpi

pytestmark = pytest.mark.skipif(available() is not None, reason=str(available()))

TLS, DNS_ID, HTTP = 91, 5, 7  # nDPI's numbers; the first test checks them
ENCRYPTED = Tables(want=ALL, encrypted=frozenset({TLS}), app={HTTP: 1, TLS: 2, DNS_ID: 3})


def of(events: list[Event], kind: Kind) -> list[Event]:
    return [event for event in events if event.kind == kind]


def dns_pair(flow: int, rig: Rig, name: str = "www.example.com") -> None:
    question = DNS(id=flow, rd=1, qd=DNSQR(qname=name))
    answer = DNS(id=flow, qr=1, qd=DNSQR(qname=name), an=DNSRR(rrname=name, rdata="192.0.2.99"))
    rig.put(datagram(bytes(question), port=53), flow)
    rig.put(datagram(bytes(answer), port=53, reverse=True), flow, reverse=True)


def real_hello(name: str) -> bytes:
    """What a real client sends first."""
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def server_hello() -> bytes:
    body = b"\x03\x03" + bytes(32) + b"\0" + b"\x13\x01" + b"\0" + b"\0\x06" + b"\0\x2b\0\x02\x03\x04"
    hello = b"\x02" + len(body).to_bytes(3, "big") + body
    return (
        b"\x16\x03\x03"
        + len(hello).to_bytes(2, "big")
        + hello
        + b"\x14\x03\x03\0\x01\x01\x17\x03\x03\0\x20"
        + bytes(32)
    )


def test_the_numbers_this_file_uses_are_those_of_ndpi() -> None:
    with Rig(classify=True) as rig:
        assert rig.engine.classification
        assert rig.engine.classification.startswith("5.0")
        names = rig.engine.protocols()
        assert (names["TLS"], names["DNS"], names["HTTP"]) == (TLS, DNS_ID, HTTP)
        assert rig.engine.category(TLS) == "Web"
        assert rig.engine.risk_score(10) > 0
        assert rig.engine.risk_name(10)
        assert rig.engine.protocol_name(60000) == ""


def test_http_dns_and_tls_are_labelled_with_what_they_carry() -> None:
    with Rig(classify=True, names=ENCRYPTED) as rig:
        talk = Talk(rig, 1).shake().say(request("/index.html", "www.example.com"))
        talk.say(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok", reverse=True)
        dns_pair(2, rig)
        Talk(rig, 3, 443, 40003).shake().say(real_hello("shop.example.org")).say(server_hello(), reverse=True)
        rig.run()
        rig.finish()
        ends = {event.flow_id & 0xFF: event for event in of(rig.events(), Kind.END)}
        assert {flow: event.app or event.master for flow, event in ends.items()} == {1: HTTP, 2: DNS_ID, 3: TLS}
        texts = {flow: json.loads(rig.text(event)) for flow, event in ends.items()}
        assert "www.example.com" in json.dumps(texts[1])
        assert "www.example.com" in json.dumps(texts[2])
        assert "shop.example.org" in json.dumps(texts[3])
        assert texts[3]["ndpi"]["tls"]["ja4"].startswith("t13d")


def test_every_flow_ends_with_one_event_that_has_its_counts() -> None:
    with Rig(classify=True) as rig:
        Talk(rig, 1).shake().say(b"hello").say(b"world!", reverse=True).bye()
        for flow in range(2, 50):
            rig.put(datagram(b"x" * flow, port=flow), flow)
        rig.run()
        rig.finish()
        ends = of(rig.events(), Kind.END)
        assert sorted(event.flow_id & 0xFF for event in ends) == list(range(1, 50))
        first = rig.detail(next(event for event in ends if event.flow_id & 0xFF == 1))
        assert (first.packets_to_server, first.packets_to_client) == (4, 3)
        assert (first.payload_to_server, first.payload_to_client) == (5, 6)
        assert first.tcp_flags_to_server == 0x1B
        assert first.end == End.CLOSED
        assert rig.engine.stats()["flows_now"] == 0
        assert rig.engine.stats()["undecided_now"] == 0
        assert rig.engine.stats()["ended"] == 49


def test_client_and_server_stay_when_the_first_record_came_backwards() -> None:
    with Rig() as rig:
        Talk(rig).say(b"first", reverse=True).say(b"second")
        rig.run()
        (end,) = rig.finish()
        assert (end.client[:4], end.client_port) == (bytes([192, 0, 2, 10]), 40000)
        assert (end.server[:4], end.server_port) == (bytes([198, 51, 100, 20]), 80)


# ---- verdicts ----

RULE_FOR_HTTP = Rules(keep_for_app=[0, 1] + [0] * 254).add(Rule(1, app=1), Pattern(b"late evil"))
RULE_FOR_ALL = Rules().add(Rule(1), Pattern(b"late evil"))


def http_flow(rig: Rig) -> Talk:
    talk = Talk(rig).shake().say(request())
    return talk.say(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 900\r\n\r\n<html>", reverse=True)


def verdict_of(words: bytearray, slot: int) -> tuple[int, int]:
    (word,) = struct.unpack_from("<Q", words, slot * 8)
    return word >> 32, word & 0xFFFFFFFF


def test_classified_without_a_rule_that_can_match_stops() -> None:
    words = bytearray(8 * 8)
    with Rig(classify=True, names=ENCRYPTED) as rig:
        rig.engine.use_verdicts(words)
        http_flow(rig)
        (event,) = of(rig.run(), Kind.CLASSIFIED)
        assert (event.action, rig.detail(event).reason) == (Action.STOP, Reason.LABEL)
        assert verdict_of(words, 1) == (7, Action.STOP)
        assert rig.engine.stats()["undecided_now"] == 0


def test_a_cleartext_flow_that_a_rule_can_match_is_not_stopped_by_its_label() -> None:
    with Rig(classify=True, names=ENCRYPTED, rules=RULE_FOR_HTTP, policy=Policy(payload_packets=6)) as rig:
        talk = http_flow(rig)
        (event,) = of(rig.run(), Kind.CLASSIFIED)
        assert event.action == Action.NONE
        talk.say(b"a late ").say(b"evil")
        events = rig.run()
        assert rig.alerts() == [1]
        talk.say(b"more").say(b"late evil again").say(b"and more")
        events = rig.run()
        (stopped,) = of(events, Kind.STOPPED)
        assert rig.detail(stopped).reason == Reason.BUDGET
        assert stopped.app == HTTP


def test_an_encrypted_flow_is_stopped_even_when_rules_are_for_everything() -> None:
    with Rig(classify=True, names=ENCRYPTED, rules=RULE_FOR_ALL) as rig:
        Talk(rig, 1, 443).shake().say(real_hello("shop.example.org")).say(server_hello(), reverse=True)
        (event,) = of(rig.run(), Kind.CLASSIFIED)
        assert (event.action, rig.detail(event).reason) == (Action.STOP, Reason.ENCRYPTION)


def test_rules_that_look_no_further_stop_by_reach() -> None:
    rules = Rules(reach=(100, 50)).add(Rule(1), Pattern(b"xyz", max_offset=50))
    with Rig(classify=True, names=ENCRYPTED, rules=rules) as rig:
        http_flow(rig).say(b"." * 60).say(b"." * 60, reverse=True)
        rig.run()
        assert rig.detail(of(rig.events(), Kind.STOPPED)[0]).reason == Reason.REACH


@pytest.mark.parametrize(
    "policy",
    [Policy(max_packets=5, payload_packets=0), Policy(payload_packets=2), Policy(payload_packets=0, payload_bytes=20)],
)
def test_the_budget_ends_classification_with_a_guess(policy: Policy) -> None:
    with Rig(classify=True, policy=policy) as rig:
        talk = Talk(rig, 1, 12345).shake()
        for _ in range(6):
            talk.say(bytes.fromhex("9d3fa0c1e27b5588f013"))
        (event,) = of(rig.run(), Kind.GAVE_UP)
        assert (event.action, rig.detail(event).reason) == (Action.STOP, Reason.BUDGET)
        assert event.packets == 5
        assert rig.engine.stats()["gave_up_budget"] == 1
        assert len(of(rig.finish(), Kind.END)) == 1


def test_a_policy_may_drop_a_protocol_or_a_risk() -> None:
    with Rig(classify=True, names=ENCRYPTED, policy=Policy(on_app={DNS_ID: Action.DROP})) as rig:
        dns_pair(1, rig)
        rig.run()
        (event,) = of(rig.events(), Kind.CLASSIFIED)
        assert (event.action, rig.detail(event).reason) == (Action.DROP, Reason.PROTOCOL)
    policy = Policy(min_risk=10, risk_action=Action.DROP)
    with Rig(classify=True, names=ENCRYPTED, policy=policy) as rig:
        Talk(rig, 1, 8123).shake().say(request("/?a=<script>alert(1)</script>", "192.0.2.1")).say(
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", reverse=True
        )
        rig.run()
        event = of(rig.events(), Kind.CLASSIFIED)[0]
        assert rig.detail(event).score >= 10
        assert (event.action, rig.detail(event).reason) == (Action.DROP, Reason.RISK)


def test_nothing_to_look_for_stops_at_once() -> None:
    with Rig() as rig:
        Talk(rig).shake()
        rig.run()
        assert [event.action for event in of(rig.events(), Kind.STOPPED)] == [Action.STOP]


# ---- bounds ----


def test_the_oldest_undecided_flow_is_given_up_when_there_are_too_many() -> None:
    limits = Limits(max_flows=1024, max_undecided=10, max_events=512, blob_bytes=1 << 20)
    with Rig(classify=True, limits=limits) as rig:
        for flow in range(1, 31):
            Talk(rig, flow, client_port=40000 + flow).shake()
        rig.run()
        gave_up = of(rig.events(), Kind.GAVE_UP)
        assert [event.flow_id & 0xFF for event in gave_up] == list(range(1, 21))
        assert {rig.detail(event).reason for event in gave_up} <= {Reason.MEMORY, Reason.LABEL}
        assert rig.engine.stats()["gave_up_memory"] == 20
        assert rig.engine.stats()["undecided_now"] == 10


def test_a_full_table_ends_the_flow_that_was_not_used_longest() -> None:
    limits = Limits(max_flows=8, max_undecided=8, max_events=512, blob_bytes=1 << 20)
    with Rig(limits=limits, rules=RULE_FOR_ALL) as rig:
        for flow in range(1, 9):
            rig.put(datagram(b"x", port=flow), flow)
        rig.put(datagram(b"again", port=1), 1)
        rig.put(datagram(b"new", port=9), 9)
        rig.run()
        (end,) = of(rig.events(), Kind.END)
        assert end.flow_id & 0xFF == 2
        assert rig.detail(end).end == End.EVICTED
        assert rig.engine.stats()["evicted"] == 1


def test_idle_flows_expire_by_class_and_the_records_clock() -> None:
    limits = Limits(
        1024, 256, 512, 1 << 20, tcp_new_seconds=5, tcp_open_seconds=50, datagram_seconds=20, decided_seconds=2
    )
    with Rig(limits=limits, rules=RULE_FOR_ALL) as rig:
        rig.put(IP(src="192.0.2.1", dst="192.0.2.2") / TCP(flags="S"), 1, tcp_flags=2)
        Talk(rig, 2).shake()
        rig.put(datagram(b"x"), 3)
        Talk(rig, 4, client_port=40004).shake().bye()
        rig.run()
        seen = []
        for seconds in (1, 3, 10, 30, 60):
            batch = rig.engine.expire(rig.now + seconds * SECOND)
            seen.append(sorted(event.flow_id & 0xFF for event in batch if event.kind == Kind.END))
        assert seen == [[], [4], [1], [3], [2]]


def test_a_flow_ends_when_the_kernel_says_so() -> None:
    with Rig() as rig:
        rig.put(datagram(b"x"), 5)
        rig.run()
        batch = rig.engine.end(records.flow_id(5, 7), rig.now)
        assert [batch.detail(event).end for event in batch] == [End.TOLD]
        assert rig.engine.end(records.flow_id(5, 7), rig.now).taken == 0


def test_another_generation_of_a_slot_is_another_flow() -> None:
    with Rig() as rig:
        rig.put(datagram(b"x"), 5)
        rig.put(datagram(b"x"), 5, flow_id=records.flow_id(5, 8))
        rig.run()
        assert len(of(rig.finish(), Kind.END)) == 2


def test_what_a_flow_waits_for_does_not_outlive_its_rules() -> None:
    rules = Rules().add(Rule(1, need=3, app=1), Pattern(b"half"), Pattern(b"other"))
    with Rig(classify=True, rules=rules) as rig:
        Talk(rig, 1, 12345).shake().say(b"half")
        rig.run()
        rig.engine.load_rules(None)
        rig.finish()
        assert rig.alerts() == []


def test_a_full_event_area_stops_the_batch_and_loses_nothing() -> None:
    rules = Rules()
    for number in range(30):
        rules.add(Rule(number + 1), Pattern(b"evil"))
    limits = Limits(max_flows=1024, max_undecided=16, max_events=256, blob_bytes=1 << 18)
    with Rig(limits=limits, rules=rules) as rig:
        for flow in range(1, 101):
            rig.put(datagram(b"evil", port=flow), flow)
            Talk(rig, 200 + flow, client_port=20000 + flow).shake().say(b"evil")
        rig.run()
        rig.finish()
        stats = rig.engine.stats()
        assert len(rig.alerts()) == 30 * 100
        assert len(of(rig.events(), Kind.END)) == 200
        assert stats["full"] > 5
        assert stats["events_lost"] == stats["text_dropped"] == 0


def test_the_table_decides_which_events_and_texts_come() -> None:
    want = {(kind, None): 0 for kind in Kind} | {(Kind.END, DNS_ID): 1, (Kind.CLASSIFIED, DNS_ID): 3}
    with Rig(classify=True, names=Tables(want=want)) as rig:
        http_flow(rig)
        dns_pair(2, rig)
        rig.run()
        rig.finish()
        assert [(event.kind, event.flow_id & 0xFF) for event in rig.events()] == [(Kind.CLASSIFIED, 2), (Kind.END, 2)]
        assert [bool(rig.text(event)) for event in rig.events()] == [True, False]
        assert rig.engine.stats()["filtered"] > 0


# ---- records that are not what they say ----


def test_tcp_and_udp_under_one_flow_id_do_no_harm() -> None:
    """Without the check per packet nDPI takes the state of one for that of the other and crashes."""
    source = random.Random(6)  # noqa: S311 - the same packets each time
    payloads = [client_hello("a.example"), request(), bytes(DNS(qd=DNSQR(qname="a.example"))), source.randbytes(300)]
    with Rig(classify=True) as rig:
        for flow in range(1, 200):
            for number in range(8):
                payload = source.choice(payloads)
                reverse = source.random() < 0.5
                ports = (443, 40000) if reverse else (40000, 443)
                ip = IP(src="192.0.2.1", dst="192.0.2.2") if source.random() < 0.8 else IPv6(src="::1", dst="::2")
                if source.random() < 0.5:
                    l4: Packet = TCP(sport=ports[0], dport=ports[1], flags="PA", seq=number * 1000)
                else:
                    l4 = UDP(sport=ports[0], dport=ports[1])
                rig.put(ip / l4 / Raw(payload), flow, reverse=reverse)
        rig.run()
        rig.finish()
        assert rig.engine.stats()["other_protocol"] > 100


@pytest.mark.parametrize(
    "changes",
    [
        {"l4_proto": 17},
        {"l4_off": 24},
        {"flags": records.IPV6},
        {"pl_off": 24, "pl_len": 10},
        {"l4_proto": 1},
    ],
)
def test_a_record_that_contradicts_its_packet_is_counted_and_left_out(changes: dict[str, int]) -> None:
    with Rig(classify=True) as rig:
        Talk(rig).say(b"payload of some length", **changes)
        rig.run()
        assert rig.engine.stats()["bad_packet"] == 1
        assert rig.engine.stats()["flows"] == 0


@pytest.mark.parametrize(
    "header",
    [
        b"",
        bytes(20),
        records.RECORD.pack(1, 1, 0, 60, 1, 60, 20, 40, 20, 6, 0, 0, 0, 0, 0, 0),  # 60 bytes that are not there
        records.RECORD.pack(1, 1, 0, 60, 1, 0, 20, 40, 20, 6, 0, 0, 0, 0, 0, 0),
        records.RECORD.pack(1, 1, 0, 60, 1, 0, 0, 0, 1, 6, 0, 0, 0, 0, 0, 0),
    ],
)
def test_wrong_lengths_are_counted(header: bytes) -> None:
    with Rig() as rig:
        rig.ring.put_raw(header)
        rig.put(datagram(b"good"))
        rig.run()
        assert rig.engine.stats()["bad_entry"] == 1
        assert rig.engine.stats()["records"] == 1


def test_an_entry_longer_than_the_ring_ends_what_can_be_read() -> None:
    with Rig() as rig:
        rig.put(datagram(b"good"))
        end = rig.ring.produced
        rig.put(datagram(b"bad"))
        records.ENTRY.pack_into(rig.ring.memory, end, 1 << 20, 0)
        rig.run()
        assert rig.engine.stats()["bad_entry"] == 1
        assert rig.engine.stats()["records"] == 1


def test_discarded_entries_are_skipped_and_busy_ones_waited_for() -> None:
    with Rig() as rig:
        places = []
        for flow in (1, 2, 3):
            places.append(rig.ring.produced)
            rig.put(datagram(b"x"), flow)
        length = records.ENTRY.unpack_from(rig.ring.memory, places[1])[0]
        records.ENTRY.pack_into(rig.ring.memory, places[1], length | records.DISCARD, 0)
        records.ENTRY.pack_into(rig.ring.memory, places[2], length | records.BUSY, 0)
        assert rig.engine.run(rig.ring).taken == 2
        assert rig.engine.run(rig.ring).taken == 0
        records.ENTRY.pack_into(rig.ring.memory, places[2], length, 0)
        rig.run()
        assert rig.engine.stats()["records"] == 2


def test_truncated_packets_are_used_as_far_as_they_go() -> None:
    whole = bytes(Talk(Rig()).packet(False, "PA", b"evil" + b"x" * 1000))
    with Rig(classify=True, rules=Rules().add(Rule(1), Pattern(b"evil")).add(Rule(2), Pattern(b"xy", 0))) as rig:
        for length in range(20, 60):
            flow = length
            pl_off = min(40, length)
            rig.ring.put(
                whole[:length],
                ts_ns=rig.now,
                flow_id=records.flow_id(flow, 1),
                l4_off=20,
                pl_off=pl_off,
                pl_len=length - pl_off,
                l4_proto=6,
                flags=records.TRUNCATED,
                wire_len=1060,
            )
        rig.run()
        assert rig.engine.stats()["truncated"] == 40
        assert rig.alerts() == [1] * 16
        assert rig.engine.stats()["gaps"] > 0


def test_fragments_are_counted_and_never_parsed() -> None:
    rules = Rules().add(Rule(1), Pattern(b"evil", 1))
    with Rig(classify=True, rules=rules) as rig:
        first = IP(src="192.0.2.1", dst="192.0.2.2", flags="MF", id=7) / UDP(sport=53, dport=53) / Raw(b"evil....")
        rig.put(first, 1)  # the record does not say so
        rig.put(first, 2, flags=records.FRAGMENT)
        later = IP(src="192.0.2.1", dst="192.0.2.2", frag=2, proto=17) / Raw(b"evil....")
        rig.put(later, 3, flags=records.FRAGMENT)
        six = IPv6(src="::1", dst="::2") / IPv6ExtHdrFragment(m=1, id=3) / UDP() / Raw(b"evil")
        rig.put(six, 4, l4_proto=44)
        rig.run()
        stats = rig.engine.stats()
        assert stats["fragments"] == 4
        assert stats["ndpi_calls"] == stats["scans"] == 0
        assert len(of(rig.finish(), Kind.END)) == 4


def test_extension_headers_of_ipv6_are_followed() -> None:
    rules = Rules().add(Rule(1), Pattern(b"evil", 1))
    packet = (
        IPv6(src="::1", dst="::2") / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / UDP(sport=1, dport=2) / Raw(b"evil")
    )
    length = len(bytes(packet))
    with Rig(rules=rules) as rig:
        rig.put(packet, 1, l4_off=56, pl_off=64, pl_len=length - 64, l4_proto=17)
        rig.put(packet, 2, l4_off=48, pl_off=56, pl_len=length - 56, l4_proto=17)  # not where they end
        rig.run()
        assert rig.alerts() == [1]
        assert rig.engine.stats()["bad_packet"] == 1


def test_failed_reservations_of_the_kernel_are_summed() -> None:
    with Rig() as rig:
        rig.put(datagram(b"x"), drops=3)
        rig.put(datagram(b"x"), drops=65535)
        rig.run()
        assert rig.engine.stats()["kernel_drops"] == 65538


def test_the_mark_says_which_record_was_begun_last() -> None:
    mark = bytearray(16)
    with Rig() as rig:
        rig.engine.use_mark(mark)
        rig.put(datagram(b"x"), 1)
        start = rig.ring.produced
        rig.put(datagram(b"x"), 2)
        rig.run()
        assert struct.unpack("<QQ", mark) == (start, records.flow_id(2, 7))
        with pytest.raises(EngineError, match="not 2"):
            rig.engine.use_mark(bytearray(8))


# ---- nDPI that is not what we know ----


def test_wrong_sizes_turn_classification_off_and_say_so() -> None:
    known = ndpi()
    for wrong, words in (
        (NdpiLibrary(known.path, 1000, 72, 24, 52, 376), "1208 bytes in the library and 1000"),
        (NdpiLibrary(known.path, 1208, 72, 5000, 52, 376), "outside"),
        (NdpiLibrary("/nowhere/lib.so", 1208, 72, 24, 52, 376), "/nowhere/lib.so"),
    ):
        with Engine(SMALL, wrong) as engine:
            assert engine.classification is None
            assert engine.no_classification is not None
            assert words in engine.no_classification


def test_without_the_wheel_the_provider_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ndpi_provider, "VERSION", "6.7.0")
    answer = ndpi_provider.find()
    assert isinstance(answer, NoNdpi)
    assert "6.6.0, known is 6.7.0" in answer.reason
    monkeypatch.setattr(ndpi_provider, "WHEEL", "no-such-wheel")
    answer = ndpi_provider.find()
    assert isinstance(answer, NoNdpi)
    assert "make setup" in answer.reason


def test_settings_of_ndpi_are_checked() -> None:
    with Engine(SMALL, ndpi(), [(None, "fpc", "0"), (None, "dpi.compute_entropy", "0")]) as engine:
        assert engine.classification
    with pytest.raises(EngineError, match="no-such-thing"):
        Engine(SMALL, ndpi(), [(None, "no-such-thing", "0")])


def test_limits_that_make_no_sense_are_refused() -> None:
    with pytest.raises(EngineError, match="limits"):
        Engine(Limits(max_flows=0))
    with Rig() as rig, pytest.raises(EngineError, match="power of two"):
        rig.engine.use_verdicts(bytearray(24))
    with Rig() as rig, pytest.raises(EngineError, match="255"):
        rig.engine.set_policy(256, Policy())


def test_without_the_built_module_everything_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding, "_native", None)
    assert "make setup" in str(available())
    with pytest.raises(EngineError, match="make setup"):
        Engine()
