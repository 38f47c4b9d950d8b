"""Reading rules: what is refused says where and why, and nothing but RuleError ever comes out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from own_rules import VARIABLES, own_rules
from rule_cases import CASES

from sluicegate_agent.dpi.rules.build import compiled, tables_of
from sluicegate_agent.dpi.rules.errors import RuleError
from sluicegate_agent.dpi.rules.keywords import KEYWORDS, PROTOCOLS, Kind
from sluicegate_agent.dpi.rules.model import App, Buffer, Content, Flow, Regex, Signature
from sluicegate_agent.dpi.rules.options import signature_of
from sluicegate_agent.dpi.rules.places import Places
from sluicegate_agent.dpi.rules.syntax import RuleText, rules_of

PLACES = Places(VARIABLES)


def read(rule: str) -> Signature:
    return signature_of(rule, PLACES)


def tcp(options: str) -> str:
    return f"alert tcp any any -> any any ({options} sid:1;)"


def test_a_whole_rule() -> None:
    signature = read(
        r'alert http $HOME_NET any -> any [80,8080] (msg:"a \"quoted\; one"; flow:established,to_server; http.uri; '
        r'content:"/a|20|b"; nocase; pcre:"/c\d/R"; classtype:attempted-recon; reference:url,example.com; '
        r"metadata:a b, c d; gid:2; sid:77; rev:4;)"
    )
    assert (signature.sid, signature.gid, signature.rev, signature.priority) == (77, 2, 4, 2)
    assert signature.message == 'a "quoted; one'
    assert signature.metadata == ("a b", "c d")
    assert signature.flow == Flow.ESTABLISHED | Flow.TO_SERVER
    assert signature.header.app is App.HTTP
    assert signature.header.destination_ports.pairs == ((80, 80), (8080, 8080))
    content, regex = signature.matches
    assert isinstance(content, Content)
    assert (content.data, content.nocase, content.buffer) == (b"/a b", True, Buffer.HTTP_URI)
    assert isinstance(regex, Regex)
    assert regex.relative


def test_lines_comments_and_continuations() -> None:
    text = "# a comment\n\nalert one \\\n  goes on\n  # another\nalert two\r\nalert three \\"
    assert list(rules_of(text)) == [
        RuleText(3, "alert one    goes on"),
        RuleText(6, "alert two"),
        RuleText(7, "alert three"),
    ]


BAD = [
    ("drop tcp any any -> any any (sid:1;)", "spec.actions", "header", 1),
    ("allow tcp any any -> any any (sid:1;)", "rules begin with alert", "header", 1),
    ("alert sctp any any -> any any (sid:1;)", "protocol sctp is not supported here yet", "header", 7),
    ("alert tcp any any <- any any (sid:1;)", "<- stands where -> or <> belongs", "header", 19),
    ("alert tcp any any -> any (sid:1;)", "destination port is missing", "header", 25),
    ("alert tcp any any -> any any x (sid:1;)", "x is one word too many", "header", 30),
    ("alert tcp $DMZ any -> any any (sid:1;)", "$DMZ has no value", "header", 11),
    ("alert tcp any 80000 -> any any (sid:1;)", "80000 is no range of ports", "header", 15),
    ("alert tcp any any -> 1.2.3 any (sid:1;)", "1.2.3 is no address", "header", 22),
    ("alert tcp [1.2.3.4,!0.0.0.0/0] any -> any any (sid:1;)", "leaves no address", "header", 11),
    ("alert tcp any any -> any any", "no opening bracket", "header", 28),
    ("alert tcp any any -> any any (sid:1;", "closing bracket", "", 36),
    ("alert tcp any any -> any any (sid:1)", "does not end with a semicolon", "sid", 31),
    ('alert tcp any any -> any any (msg:"a";)', "has no sid", "sid", 0),
    (tcp("byte_test:1,>,2,3;"), "byte_test is not supported here yet", "byte_test", 31),
    (tcp("flowbits:set,x;"), "flowbits is not supported here yet", "flowbits", 31),
    (tcp('content:"a"; frob;'), "frob is not supported here yet", "frob", 44),
    (tcp("content:abc;"), "double quotes", "content", 31),
    (tcp('content:"";'), "is empty", "content", 31),
    (tcp('content:"|4|";'), "no hexadecimal bytes", "content", 31),
    (tcp('content:"|41";'), "odd number of bars", "content", 31),
    (tcp(r'content:"a\n";'), "a backslash stands only before", "content", 31),
    (tcp('content:"abc"; depth:2;'), "depth 2 is shorter than the content", "content", 31),
    (tcp('content:"a"; content:"abc"; within:2;'), "within 2 is shorter", "content", 44),
    (tcp('content:"a"; offset:1; distance:1;'), "choose one", "content", 31),
    (tcp('content:"a"; content:"b"; distance:-1;'), "negative distance", "content", 44),
    (tcp('content:"a"; content:!"bc"; within:5;'), "negated match that is relative", "content", 44),
    (tcp('content:"a"; content:!"b"; distance:0;'), "negated match that is relative", "content", 44),
    (tcp('content:"a"; pcre:!"/b/R";'), "negated match that is relative", "pcre", 44),
    (tcp('content:"a"; offset:1; offset:2;'), "stands twice", "offset", 54),
    (tcp("nocase;"), "has no content before it", "nocase", 31),
    (tcp('content:"a"; nocase:1;'), "takes no value", "nocase", 44),
    (tcp('pcre:"/a/"; nocase;'), "belongs to a content", "nocase", 43),
    (tcp('content:"a"; offset:x;'), "no number from 0", "offset", 44),
    (tcp("dsize:70000;"), "allows no length", "dsize", 31),
    (tcp("dsize:5<>6;"), "allows no length", "dsize", 31),
    (tcp("dsize:a;"), "is no length", "dsize", 31),
    (tcp("dsize:4; dsize:5;"), "stands twice", "dsize", 40),
    (tcp('dsize:4; http.uri; content:"a";'), "may span packets", "dsize", 0),
    (tcp("flow:to_server,to_client;"), "exclude each other", "flow", 31),
    (tcp("flow:sideways;"), "sideways is not supported here yet", "flow", 31),
    (tcp('flow:to_client; http.uri; content:"a";'), "what clients send", "flow", 0),
    (tcp('http.host; content:"Big";'), "lower case", "content", 42),
    (tcp('dns.query; content:"a";'), "dns.query never exists in tcp", "dns.query", 0),
    (tcp('pcre:"a";'), "between slashes", "pcre", 31),
    (tcp('pcre:"/a/q";'), "flag q is not supported", "pcre", 31),
    (tcp('http.uri; pcre:"/a/W";'), "contradicts http.uri", "pcre", 41),
    (tcp('pcre:"/(*UTF8)a/";'), "(*...)", "pcre", 31),
    (tcp('content:"x"; pcre:"/a)(b/R";'), "closes a group", "pcre", 44),
    (tcp('content:"x"; pcre:"/^a|b/R";'), "one of several alternatives", "pcre", 44),
    (tcp('content:"x"; content:"y"; distance:40000;'), "more than 32767 bytes apart", "content", 44),
    (tcp("threshold:type both, track by_src, count 1, seconds 1;"), "only type limit", "threshold", 31),
    (tcp('content:"x";' * 65), "more than 64 contents", "content", 799),
    (tcp('content:"x";' * 33), "more than 32", "", 0),
    (tcp(f'msg:"{"x" * 9000}";'), "more than 8192", "", 0),
    ('alert tls any any -> any any (http.uri; content:"a"; sid:1;)', "http.uri never exists in tls", "http.uri", 0),
]


@pytest.mark.parametrize(("rule", "words", "keyword", "column"), BAD, ids=[each[1] for each in BAD])
def test_a_bad_rule_says_what_where_and_why(rule: str, words: str, keyword: str, column: int) -> None:
    with pytest.raises(RuleError) as caught:
        compiled(read(rule))
    assert words in caught.value.message
    assert (caught.value.keyword, caught.value.column) == (keyword, column)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_can_be_written(protocol: str) -> None:
    assert read(f"alert {protocol} any any -> any any (sid:1;)").header.app is PROTOCOLS[protocol][1]


@pytest.mark.parametrize(("word", "form"), [(word, each.form) for word, each in KEYWORDS.items()])
def test_every_form_in_the_reference_can_be_read(word: str, form: str) -> None:
    known = KEYWORDS[word]
    protocol = "dns" if known.buffer is Buffer.DNS_QUERY else "tcp"
    before = 'content:"get"; ' if known.modifies or known.kind in {Kind.PLACE, Kind.NO_EFFECT} else ""
    after = "" if word == "sid" else " sid:1;"
    assert read(f"alert {protocol} any any -> any any ({before}{form.replace('...', ' track by_src')}{after})").sid


def test_two_ways_to_write_a_field_mean_the_same() -> None:
    old = read(tcp('content:"a"; http_uri; content:"b"; http_host; content:"c";'))
    new = read(tcp('http.uri; content:"a"; http.host; content:"b"; pkt_data; content:"c";'))
    assert [match.buffer for match in old.matches] == [match.buffer for match in new.matches]


def test_own_rules_are_all_read_and_few_stand_for_more_than_one() -> None:
    rules = [compiled(read(rule.text)) for rule in rules_of(own_rules())]
    assert len(rules) == 112
    assert len(tables_of(rules).rules) == 112


good_rules = st.sampled_from([case[1] for case in CASES] + own_rules().splitlines())
noise = st.text(st.sampled_from('"\\;:|!/()[]{}<>-,.$^*+?#~ \t\0ä\udc80\udfffab019RUi'), max_size=6)


@st.composite
def broken_rules(draw: st.DrawFn) -> str:
    rule = draw(good_rules)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(rule)))
        end = draw(st.integers(start, min(start + 8, len(rule))))
        rule = rule[:start] + draw(noise) + rule[end:]
    return rule


@settings(deadline=None)
@given(broken_rules() | st.text(max_size=200) | st.builds(tcp, st.text(max_size=80)))
def test_any_text_is_a_rule_or_a_rule_error(text: str) -> None:
    for rule in rules_of(text):
        try:
            tables_of([compiled(signature_of(rule.text, Places({"HOME_NET": "[10.0.0.0/8,$OTHER]"})))])
            tables_of([compiled(read(rule.text))])
        except RuleError as caught:
            error: RuleError | None = caught
        else:
            error = None
        assert error is None or (error.message and 0 <= error.column <= len(rule.text) + 1)
