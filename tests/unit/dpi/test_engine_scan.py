"""Rules on streams, packets and heads."""

import pytest
from engine_rig import Pattern, Rig, Rule, Rules, Talk, chunks, client_hello, datagram, request
from scapy.layers.inet import IP, UDP

from sluicegate_agent.dpi.engine import Action, EngineError, Kind, PatternError, available, check_pattern
from sluicegate_agent.dpi.rules import tables
from sluicegate_agent.dpi.rules.model import Buffer

pytestmark = pytest.mark.skipif(available() is not None, reason=str(available()))

EVIL = Rules().add(Rule(1), Pattern(b"evil bytes"))


def test_a_pattern_across_two_packets_is_found() -> None:
    with Rig(rules=EVIL) as rig:
        Talk(rig).shake().say(b"some ev").say(b"il bytes here")
        rig.run()
        assert rig.alerts() == [1]


def test_packet_patterns_do_not_span_packets() -> None:
    with Rig(rules=Rules().add(Rule(1), Pattern(b"evil bytes", Buffer.PACKET))) as rig:
        talk = Talk(rig).shake().say(b"some ev").say(b"il bytes here")
        rig.run()
        assert rig.alerts() == []
        talk.say(b"evil bytes")
        rig.run()
        assert rig.alerts() == [1]


def test_retransmitted_bytes_are_scanned_once() -> None:
    with Rig(rules=EVIL) as rig:
        talk = Talk(rig).shake().say(b"some ev")
        talk.say_at(-7, b"some ev").say_at(-2, b"evil bytes")
        rig.run()
        assert rig.alerts() == [1]
        assert rig.engine.stats()["retransmitted"] == 9


def test_bytes_sent_twice_are_no_longer_stream() -> None:
    with Rig(rules=Rules().add(Rule(1), Pattern(b"(ab){4}"))) as rig:
        talk = Talk(rig).shake().say(b"abab")
        talk.say_at(-4, b"abab").say_at(-4, b"abab.").say_at(-2, b"ab.abab")
        rig.run()
        assert rig.alerts() == []


def test_an_old_copy_with_other_bytes_changes_nothing() -> None:
    with Rig(rules=EVIL) as rig:
        talk = Talk(rig).shake().say(b"harmless stuff")
        talk.say_at(-14, b"evil bytes....")
        rig.run()
        assert rig.alerts() == []


def test_segments_in_the_wrong_order_are_put_right() -> None:
    with Rig(rules=EVIL) as rig:
        talk = Talk(rig).shake()
        talk.say_at(7, b"tes").say_at(5, b"by").say_at(0, b"evil ")
        rig.run()
        assert rig.alerts() == [1]
        assert rig.engine.stats()["reordered"] == 2
        assert rig.engine.stats()["held_now"] > 0  # what the flow remembers of its alert
        rig.finish()
        assert rig.engine.stats()["held_now"] == 0


def test_what_never_comes_is_a_gap_and_the_rest_is_scanned_at_the_end() -> None:
    with Rig(rules=EVIL) as rig:
        Talk(rig).shake().say_at(100, b"evil bytes")
        rig.run()
        assert rig.alerts() == []
        rig.finish()
        assert rig.alerts() == [1]
        assert rig.engine.stats()["gaps"] == 100


def test_waiting_is_bounded_per_flow() -> None:
    with Rig(rules=EVIL) as rig:
        talk = Talk(rig).shake()
        for number in range(40):
            talk.say_at(1000 + number * 1000, b"x" * 1000)
        talk.say_at(1000 + 40 * 1000, b"evil bytes")
        rig.run()
        stats = rig.engine.stats()
        assert rig.alerts() == [1]
        assert stats["gaps"] == 1000
        assert stats["held_now"] < 2000


def test_a_sequence_number_may_wrap() -> None:
    with Rig(rules=EVIL) as rig:
        talk = Talk(rig).shake().say(b"x" * 250, reverse=True)
        talk.say(b"evil ", reverse=True).say(b"bytes", reverse=True)
        rig.run()
        assert rig.alerts() == [1]
        assert [event.direction for event in rig.events() if event.kind == Kind.ALERT] == [1]


def test_offset_and_depth_count_from_the_stream_start_and_not_from_behind_a_gap() -> None:
    near = Rules().add(Rule(1), Pattern(b"abc", max_offset=10))
    with Rig(rules=near) as rig:
        Talk(rig).shake().say(b"x" * 7).say(b"abc")
        rig.run()
        assert rig.alerts() == [1]
    for first in (b"x" * 8, b""):
        with Rig(rules=near) as rig:
            talk = Talk(rig).shake()
            if first:
                talk.say(first).say(b"abc")
            else:
                talk.say_at(50, b"abc")
            rig.run()
            rig.finish()
            assert rig.alerts() == []


def test_all_terms_are_needed_and_forbidden_ones_must_be_absent() -> None:
    rules = Rules().add(Rule(1, need=3, forbid=4), Pattern(b"first"), Pattern(b"second"), Pattern(b"never"))
    with Rig(rules=rules) as rig:
        talk = Talk(rig).shake().say(b"first")
        rig.run()
        assert rig.alerts() == []
        talk.say(b"second", reverse=True)  # the other direction is another stream
        rig.run()
        assert rig.alerts() == []
        talk.say(b"second")
        rig.run()
        assert rig.alerts() == [1]
        Talk(rig, 2, client_port=40001).shake().say(b"first never second")
        rig.run()
        assert rig.alerts() == [1]


def test_an_alert_comes_once_per_flow() -> None:
    with Rig(rules=EVIL) as rig:
        talk = Talk(rig).shake()
        for _ in range(5):
            talk.say(b"evil bytes ")
        Talk(rig, 2, client_port=40001).shake().say(b"evil bytes")
        rig.run()
        assert rig.alerts() == [1, 1]


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        (Rule(1, destination_port=1), True),
        (Rule(1, source_port=1), False),
        (Rule(1, source_port=1, flags=1), True),
        (Rule(1, source=1, destination=2), True),
        (Rule(1, source=2), False),
        (Rule(1, flags=2), True),
        (Rule(1, flags=4), False),
        (Rule(1, flags=8), True),
        (Rule(1, flags=16), False),
        (Rule(1, flags=32), True),
        (Rule(1, flags=64), False),
        (Rule(1, l4=6), True),
        (Rule(1, l4=17), False),
        (Rule(1, app=1), True),
        (Rule(1, app=2), False),
    ],
)
def test_header_conditions(rule: tables.Rule, *, matches: bool) -> None:
    mapped = bytes(10) + b"\xff\xff"
    rules = Rules().add(rule, Pattern(b"needle"))
    rules.port_sets.append([(1, 10), (80, 81), (8000, 8100)])
    rules.address_sets.append([(mapped + bytes([192, 0, 2, 0]), mapped + bytes([192, 0, 2, 255]))])
    rules.address_sets.append([(mapped + bytes([198, 51, 100, 0]), mapped + bytes([198, 51, 100, 255]))])
    with Rig(rules=rules) as rig:
        Talk(rig).shake().say(request("/needle"))
        rig.run()
        assert rig.alerts() == ([1] if matches else [])


def test_ipv6_is_matched_by_its_addresses() -> None:
    prefix = bytes.fromhex("20010db8")
    rules = Rules().add(Rule(1, source=1, flags=64), Pattern(b"needle"))
    rules.address_sets.append([(prefix + bytes(12), prefix + b"\xff" * 12)])
    with Rig(rules=rules) as rig:
        Talk(rig, six=True).shake().say(b"needle")
        rig.run()
        assert rig.alerts() == [1]


def test_dsize_is_that_of_the_packet() -> None:
    rules = Rules().add(Rule(1, dsize_low=5, dsize_high=8), Pattern(b"abc", Buffer.PACKET))
    with Rig(rules=rules) as rig:
        rig.put(datagram(b"abc"))
        rig.put(datagram(b"abc......"))
        rig.run()
        assert rig.alerts() == []
        rig.put(datagram(b"abc..."))
        rig.run()
        assert rig.alerts() == [1]


def test_rules_without_a_pattern() -> None:
    bare = (
        Rules().add(Rule(1, need=0, destination_port=1)).add(Rule(2, need=0, forbid=1), Pattern(b"ok", Buffer.PACKET))
    )
    bare.port_sets.append([(4444, 4444)])
    with Rig(rules=bare) as rig:
        Talk(rig, port=4444).shake()
        rig.run()
        assert rig.alerts() == [1]  # already the SYN
        rig.put(datagram(b"this is ok"), 2)
        rig.run()
        assert rig.alerts() == [1]
        rig.put(datagram(b"this is not"), 3)
        rig.run()
        assert rig.alerts() == [1, 2]


HEADS = (
    Rules()
    .add(Rule(1), Pattern(b"/etc/passwd", Buffer.HTTP_URI))
    .add(Rule(2), Pattern(b"%2fetc", Buffer.HTTP_URI_RAW, 1))
    .add(Rule(3), Pattern(rb"^bad\.example$", Buffer.HTTP_HOST))
    .add(Rule(4), Pattern(rb"^sqlmap/1$", Buffer.HTTP_USER_AGENT))
    .add(Rule(5), Pattern(rb"^DELETE$", Buffer.HTTP_METHOD))
    .add(Rule(6), Pattern(rb"^secret\.example$", Buffer.TLS_SNI))
    .add(Rule(7), Pattern(rb"^www\.bad\.example$", Buffer.DNS_QUERY))
)
ATTACK = request("/a?f=..%2fetc%2Fpasswd", "BAD.example:8080", "  sqlmap/1 ", "DELETE")


@pytest.mark.parametrize("sizes", [[], [2], [10, 10, 10], [len(ATTACK) - 1], [1] * 60])
def test_http_requests_are_taken_apart_however_they_are_cut(sizes: list[int]) -> None:
    with Rig(rules=HEADS) as rig:
        talk = Talk(rig).shake()
        for piece in chunks(ATTACK, sizes):
            talk.say(piece)
        rig.run()
        assert sorted(rig.alerts()) == [1, 2, 3, 4, 5]


def test_the_second_request_of_a_connection_is_looked_at() -> None:
    with Rig(rules=HEADS) as rig:
        Talk(rig).shake().say(request()).say(b"HTTP/1.1 200 OK\r\n\r\n", reverse=True).say(request("/etc/passwd"))
        rig.run()
        assert rig.alerts() == [1]


def test_bits_of_one_request_do_not_count_for_the_next() -> None:
    rules = Rules().add(
        Rule(1, need=3, request_bits=3), Pattern(b"/x", Buffer.HTTP_URI), Pattern(b"bad", Buffer.HTTP_HOST)
    )
    with Rig(rules=rules) as rig:
        talk = Talk(rig).shake().say(request("/x", "good")).say(request("/y", "bad"))
        rig.run()
        assert rig.alerts() == []
        talk.say(request("/x", "bad"))
        rig.run()
        assert rig.alerts() == [1]


def test_a_forbidden_host_waits_for_the_host() -> None:
    rules = Rules().add(Rule(1, need=1, forbid=2), Pattern(b"GET"), Pattern(b"^good$", Buffer.HTTP_HOST))
    with Rig(rules=rules) as rig:
        for flow, host in enumerate(("good", "bad"), 1):
            talk = Talk(rig, flow, client_port=40000 + flow).shake()
            for piece in chunks(request("/", host), [6, 6]):
                talk.say(piece)
        events = rig.run()
        assert [event.client_port for event in events if event.kind == Kind.ALERT] == [40002]


@pytest.mark.parametrize("padding", [0, 1400, 5000])
def test_the_server_name_of_a_hello_over_several_packets(padding: int) -> None:
    hello = client_hello("secret.example", padding)
    with Rig(rules=HEADS) as rig:
        talk = Talk(rig, port=443).shake()
        for at in range(0, len(hello), 1300):
            talk.say(hello[at : at + 1300])
        rig.run()
        assert rig.alerts() == [6]


def test_a_hello_in_several_tls_records() -> None:
    hello = client_hello("secret.example")[5:]
    parts = b"".join(b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part for part in chunks(hello, [3, 20, 50]))
    with Rig(rules=HEADS) as rig:
        Talk(rig, port=443).shake().say(parts)
        rig.run()
        assert rig.alerts() == [6]


def test_the_name_a_dns_question_asks_for() -> None:
    question = bytes.fromhex("123401000001000000000000") + b"\x03WWW\x03bad\x07example\0\0\x01\0\x01"
    with Rig(rules=HEADS) as rig:
        rig.put(datagram(question, port=53))
        rig.run()
        assert rig.alerts() == [7]


@pytest.mark.parametrize(
    "payload",
    [
        b"GET ",
        b"USER anonymous\r\n",
        b"GET / SIP/2.0\r\n\r\n",
        b"\x16\x03\x01\xff\xff\x01",
        b"\x16\x03\x01\x00\x05\x01\xff\xff\xff\x00",
        client_hello("secret.example")[:-20],
        b"POST " + b"/" * 20000,
    ],
)
def test_heads_that_are_none_or_not_whole_do_no_harm(payload: bytes) -> None:
    with Rig(rules=HEADS) as rig:
        talk = Talk(rig).shake()
        for at in range(0, len(payload), 1400):
            talk.say(payload[at : at + 1400])
        rig.run()
        rig.finish()
        assert rig.alerts() == []
        assert rig.engine.stats()["held_now"] == 0


def test_a_rule_may_drop_the_flow_and_writes_its_verdict() -> None:
    words = bytearray(8 * 16)
    with Rig(rules=Rules().add(Rule(1, action=Action.DROP), Pattern(b"evil"))) as rig:
        rig.engine.use_verdicts(words)
        Talk(rig, 3).shake().say(b"evil")
        rig.run()
        assert int.from_bytes(words[24:32], "little") == 7 << 32 | Action.DROP
        assert next(e.action for e in rig.events() if e.kind == Kind.ALERT) == Action.DROP


def test_a_bad_pattern_is_named() -> None:
    with pytest.raises(PatternError, match="parenthes") as caught:
        Rules().add(Rule(1), Pattern(b"fine")).add(Rule(2), Pattern(b"(bad")).compiled()
    assert caught.value.pattern == 1
    with pytest.raises(PatternError):
        check_pattern(b"a(?=b)", 0)
    with pytest.raises(EngineError, match="set that is not there"):
        Rules().add(Rule(1, source=9), Pattern(b"a")).compiled()


def test_a_reload_keeps_flows_and_their_alerts_and_begins_streams_anew() -> None:
    with Rig(rules=EVIL) as rig:
        talk = Talk(rig).shake().say(b"evil bytes, then more ev")
        rig.run()
        more = (
            Rules()
            .add(Rule(1), Pattern(b"evil bytes"))
            .add(Rule(2), Pattern(b"^fresh"))
            .add(Rule(3), Pattern(b"fresh"))
        )
        rig.engine.load_rules(more.compiled())
        talk.say(b"il bytes").say(b"fresh and evil bytes")
        rig.run()
        assert rig.alerts() == [1, 3]  # not 1 again; not 2, whose ^ is far behind
        rig.engine.load_rules(None)
        talk.say(b"fresh")
        rig.run()
        (end,) = [event for event in rig.finish() if event.kind == Kind.END]
        assert end.packets == 7
        assert rig.engine.stats()["restarted"] == 2
        assert rig.engine.stats()["streams_now"] == 0


def test_a_hundred_reloads_leave_nothing_behind() -> None:
    with Rig(rules=EVIL) as rig:
        talk = Talk(rig).shake()
        for _ in range(100):
            talk.say(b"evil")
            rig.run()
            rig.engine.load_rules(EVIL.compiled())
        assert rig.engine.stats()["streams_now"] == 0
        assert rig.engine.stats()["flows_now"] == 1


def test_compiled_rules_go_to_one_engine() -> None:
    compiled = EVIL.compiled()
    assert compiled.size > 1000
    with Rig() as rig:
        rig.engine.load_rules(compiled)
        with pytest.raises(EngineError, match="given to an engine"):
            rig.engine.load_rules(compiled)


def test_udp_and_icmp_payloads_are_scanned() -> None:
    rules = Rules().add(Rule(1), Pattern(b"needle", Buffer.PACKET))
    with Rig(rules=rules) as rig:
        rig.put(datagram(b"a needle"), 1)
        rig.put(IP(src="192.0.2.1", dst="192.0.2.2", proto=1) / bytes.fromhex("0800000000000000") / b"a needle", 2)
        rig.put(IP(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=1, dport=2), 3)
        rig.run()
        assert rig.alerts() == [1, 1]
