"""Every rule of a sniffer's spec: what is refused, where, and in which words."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest
from pydantic import ValidationError

from sluicegate_api.common import ObjectKey, ObjectMeta
from sluicegate_api.dpisniffer import (
    Action,
    ActionType,
    Budget,
    Depth,
    DpiSniffer,
    DpiSnifferSpec,
    EveExport,
    EveType,
    Match,
    PortRange,
    Side,
    Signatures,
    SniffProtocol,
    SniffRule,
)

Problems = Callable[..., list[tuple[str, str]]]
Manifest = Callable[..., dict[str, Any]]

PODS = {"matchLabels": {"app": "web"}}
RULES = {"inline": 'alert tcp any any -> any any (msg:"a"; sid:1;)'}


def _rule(**fields: object) -> dict[str, object]:
    return {"sniff": [fields]}


def _action(**fields: object) -> dict[str, object]:
    return {"actions": [{"match": {"protocols": ["SSH"]}, "action": "Alert", **fields}]}


def _match(**fields: object) -> dict[str, object]:
    return {"signatures": RULES, "actions": [{"match": fields, "action": "Alert"}]}


def _eve(**fields: object) -> dict[str, object]:
    return {"export": {"eve": fields}}


REFUSED: dict[str, tuple[dict[str, object], str, str]] = {
    "pods beside interfaces": (
        {"attach": {"interfaces": ["eth0"], "podSelector": PODS}},
        "spec.attach.podSelector",
        "cannot be combined with interfaces",
    ),
    "namespaces beside interfaces": (
        {"attach": {"interfaces": ["eth0"], "namespaceSelector": PODS}},
        "spec.attach.namespaceSelector",
        "cannot be combined with interfaces",
    ),
    "namespaces without pods": (
        {"attach": {"namespaceSelector": PODS}},
        "spec.attach.namespaceSelector",
        "needs podSelector",
    ),
    "no interfaces": ({"attach": {"interfaces": []}}, "spec.attach.interfaces", "at least one entry"),
    "an interface twice": (
        {"attach": {"interfaces": ["eth0", "eth0"]}},
        "spec.attach.interfaces[1]",
        "already listed in interfaces[0]",
    ),
    "an interface name longer than the kernel's": (
        {"attach": {"interfaces": ["a" * 16]}},
        "spec.attach.interfaces[0]",
        "longer than the 15",
    ),
    "an interface name with a slash": (
        {"attach": {"interfaces": ["a/b"]}},
        "spec.attach.interfaces[0]",
        "interface name",
    ),
    "no rules": ({"sniff": []}, "spec.sniff", "at least one entry"),
    "1001 rules": (
        {"sniff": [{"source": {"ports": [n]}} for n in range(1, 1002)]},
        "spec.sniff",
        "has 1001 entries, at most 1000",
    ),
    "a rule's name twice": (
        {"sniff": [{"name": "a", "protocols": ["TCP"]}, {"protocols": ["UDP"]}, {"name": "a"}]},
        "spec.sniff[2].name",
        "the name of sniff[0]",
    ),
    "a rule's name with capitals": (_rule(name="Web"), "spec.sniff[0].name", "lower case"),
    "a protocol in small letters": (_rule(protocols=["tcp"]), "spec.sniff[0].protocols[0]", "did you mean TCP?"),
    "a protocol twice": (_rule(protocols=["TCP", "TCP"]), "spec.sniff[0].protocols[1]", "listed in protocols[0]"),
    "no protocols": (_rule(protocols=[]), "spec.sniff[0].protocols", "at least one entry"),
    "an address for a network": (_rule(source={"cidrs": ["10.0.0.1"]}), "spec.sniff[0].source.cidrs[0]", "prefix"),
    "a network with bits after its prefix": (
        _rule(destination={"cidrs": ["10.0.0.1/8"]}),
        "spec.sniff[0].destination.cidrs[0]",
        'did you mean "10.0.0.0/8"?',
    ),
    "a network twice in different spelling": (
        _rule(source={"cidrs": ["2001:db8::/32", "2001:DB8:0::/32"]}),
        "spec.sniff[0].source.cidrs[1]",
        "already listed in cidrs[0]",
    ),
    "65 networks": (
        _rule(source={"cidrs": [f"10.{n}.0.0/16" for n in range(65)]}),
        "spec.sniff[0].source.cidrs",
        "at most 64",
    ),
    "port 0": (_rule(source={"ports": [0]}), "spec.sniff[0].source.ports[0]", "between 1 and 65535, is 0"),
    "a port above 65535": (_rule(source={"ports": [65536]}), "spec.sniff[0].source.ports[0]", "is 65536"),
    "a port in quotes": (_rule(source={"ports": ["80"]}), "spec.sniff[0].source.ports[0]", "without quotes"),
    "a port as a boolean": (_rule(source={"ports": [True]}), "spec.sniff[0].source.ports[0]", "8000-8999"),
    "a range beyond 65535": (_rule(source={"ports": ["1-65536"]}), "spec.sniff[0].source.ports[0]", "to 65535"),
    "a range from 0": (_rule(source={"ports": ["0-80"]}), "spec.sniff[0].source.ports[0]", "from 1"),
    "a range as Suricata has it": (_rule(source={"ports": ["80:90"]}), "spec.sniff[0].source.ports[0]", "8000-8999"),
    "a range without an end": (_rule(source={"ports": ["80-"]}), "spec.sniff[0].source.ports[0]", "8000-8999"),
    "a range that ends before it begins": (
        _rule(source={"ports": ["90-80"]}),
        "spec.sniff[0].source.ports[0]",
        'did you mean "80-90"?',
    ),
    "a port twice": (
        _rule(destination={"ports": [80, "80-80"]}),
        "spec.sniff[0].destination.ports[1]",
        "80 is already listed in ports[0]",
    ),
    "65 ports": (_rule(source={"ports": list(range(1, 66))}), "spec.sniff[0].source.ports", "at most 64"),
    "ports of a protocol without": (
        _rule(protocols=["TCP", "ICMP"], destination={"ports": [80]}),
        "spec.sniff[0].destination.ports",
        "ICMP, which has no ports",
    ),
    "a flow from IPv4 to IPv6": (
        _rule(source={"cidrs": ["10.0.0.0/8"]}, destination={"cidrs": ["2001:db8::/32", "fd00::/8"]}),
        "spec.sniff[0].destination.cidrs",
        "are all IPv6, and those of source are all IPv4",
    ),
    "a rule after one that takes everything": (
        {"sniff": [{"protocols": ["TCP"]}, {"name": "rest"}, {"protocols": ["UDP"]}]},
        "spec.sniff[2]",
        "never matches: sniff[1] takes everything",
    ),
    "a rule that says the same as an earlier one": (
        {"sniff": [{"source": {"ports": [1, 2]}}, {"ignore": True}, {"source": {"ports": [2, 1]}}][::2]},
        "spec.sniff[1]",
        "never matches: sniff[0] has the same conditions",
    ),
    "rules that ignore everything": (
        {"sniff": [{"protocols": ["TCP"], "ignore": True}]},
        "spec.sniff",
        "add a rule without ignore",
    ),
    "more packets with data than packets": (
        {"budget": {"payloadPackets": 25}},
        "spec.budget.payloadPackets",
        "25 is more than maxPackets, which is 24",
    ),
    "no packets": ({"budget": {"payloadPackets": 0}}, "spec.budget.payloadPackets", "at least 1"),
    "too few bytes for a request": ({"budget": {"payloadBytes": 63}}, "spec.budget.payloadBytes", "at least 64"),
    "a budget of more than 16 MiB": (
        {"budget": {"payloadBytes": 16_777_217}},
        "spec.budget.payloadBytes",
        "at most 16777216",
    ),
    "more packets than are counted": ({"budget": {"maxPackets": 65536}}, "spec.budget.maxPackets", "at most 65535"),
    "a depth that is none": ({"classify": {"depth": "lean"}}, "spec.classify.depth", "did you mean Lean?"),
    "a depth that YAML takes for false": (
        {"classify": {"depth": False}},
        "spec.classify.depth",
        'write "Off" in quotes',
    ),
    "rules of no length": ({"signatures": {"inline": ""}}, "spec.signatures.inline", "must not be empty"),
    "rules that are too long": (
        {"signatures": {"inline": "#" * 196_609}},
        "spec.signatures.inline",
        "at most 196608 characters",
    ),
    "a ConfigMap without a key": (
        {"signatures": {"configMapRefs": [{"name": "rules"}]}},
        "spec.signatures.configMapRefs[0].key",
        "is required",
    ),
    "a key with a slash": (
        {"signatures": {"configMapRefs": [{"name": "rules", "key": "a/b"}]}},
        "spec.signatures.configMapRefs[0].key",
        "must consist of letters",
    ),
    "a ConfigMap's key twice": (
        {"signatures": {"configMapRefs": [{"name": "rules", "key": "a"}] * 2}},
        "spec.signatures.configMapRefs[1]",
        "rules/a is already listed",
    ),
    "a file twice": (
        {"signatures": {"files": ["a.rules", "a.rules"]}},
        "spec.signatures.files[1]",
        "already listed in files[0]",
    ),
    "a file with a line break": ({"signatures": {"files": ["a\nb"]}}, "spec.signatures.files[0]", "control"),
    "a variable with a dollar": ({"variables": {"$A": "any"}}, 'spec.variables["$A"]', 'without "$"'),
    "a variable with a hyphen": ({"variables": {"HOME-NET": "any"}}, 'spec.variables["HOME-NET"]', "HOME_NET"),
    "a variable as a number": ({"variables": {"PORTS": 80}}, "spec.variables.PORTS", "put it in quotes"),
    "a variable as a list": ({"variables": {"NET": ["10.0.0.0/8"]}}, "spec.variables.NET", "text, is a list"),
    "a variable of no form": ({"variables": {"NET": "10.0.0.0/33"}}, "spec.variables.NET", 'has "10.0.0.0/33"'),
    "a variable of signs": ({"variables": {"NET": "10.0.0.0/8;"}}, "spec.variables.NET", "must hold addresses"),
    "a variable that is itself": ({"variables": {"A": "[$B]", "C": "$A", "B": "!$B"}}, "spec.variables.B", "itself"),
    "65 variables": ({"variables": {f"A{n}": "any" for n in range(65)}}, "spec.variables", "at most 64"),
    "no actions": ({"actions": []}, "spec.actions", "at least one entry"),
    "an action's name twice": (
        {"actions": [{"name": "a", "match": {"minRisk": n}, "action": "Alert"} for n in (1, 2)]},
        "spec.actions[1].name",
        "the name of actions[0]",
    ),
    "an action without a match": ({"actions": [{"action": "Alert"}]}, "spec.actions[0].match", "is required"),
    "a match of everything": (_action(match={}), "spec.actions[0].match", "one of protocols"),
    "an action that is none": (_action(action="drop"), "spec.actions[0].action", "did you mean Drop?"),
    "how long an alert lasts": (_action(forSeconds=5), "spec.actions[0].forSeconds", "needs action Drop or Widen"),
    "a drop of no time": (_action(action="Drop", forSeconds=0), "spec.actions[0].forSeconds", "at least 1"),
    "a drop of more than a day": (_action(action="Drop", forSeconds=86401), "spec.actions[0].forSeconds", "86400"),
    "a protocol to match twice": (
        _match(protocols=["SSH", "SSH"]),
        "spec.actions[0].match.protocols[1]",
        "SSH is already listed in protocols[0]",
    ),
    "a category with spaces around": (
        _match(categories=[" Mining"]),
        "spec.actions[0].match.categories[0]",
        "without spaces around",
    ),
    "a risk of 0": (_match(minRisk=0), "spec.actions[0].match.minRisk", "at least 1"),
    "a signature 0": (_match(signatureIds=[0]), "spec.actions[0].match.signatureIds[0]", "at least 1"),
    "a signature beyond 32 bits": (
        _match(signatureIds=[2**32]),
        "spec.actions[0].match.signatureIds[0]",
        "at most 4294967295",
    ),
    "signatures that are nowhere": (
        _action(match={"signatureIds": [1]}),
        "spec.actions[0].match.signatureIds",
        "signatures names none",
    ),
    "a protocol that nobody tells": (
        {**_match(protocols=["SSH"]), "classify": {"depth": "Off"}},
        "spec.actions[0].match.protocols",
        "classify.depth is Off",
    ),
    "a risk that nobody tells": (
        {**_match(minRisk=1, signatureIds=[1]), "classify": {"depth": "Off"}},
        "spec.actions[0].match.minRisk",
        "classify.depth is Off",
    ),
    "a file without a path": (_eve(type="File"), "spec.export.eve.path", "is required with type File"),
    "a path of the standard output": (_eve(path="/a"), "spec.export.eve.path", "needs type File or UnixSocket"),
    "a relative path of events": (_eve(type="File", path="a"), "spec.export.eve.path", 'starts with "/"'),
    "a path upwards": (_eve(type="File", path="/a/../b"), "spec.export.eve.path", 'has ".." in it'),
    "a folder for a file": (_eve(type="File", path="/a/"), "spec.export.eve.path", "add the name of a file"),
    "a socket's path longer than the kernel's": (
        _eve(type="UnixSocket", path="/" + "a" * 107),
        "spec.export.eve.path",
        "is 108 bytes long; a unix socket's has at most 107",
    ),
    "a size of a socket": (
        _eve(type="UnixSocket", path="/a", maxBytes=65_536),
        "spec.export.eve.maxBytes",
        "needs type File, but the type is UnixSocket",
    ),
    "a number of files of the standard output": (_eve(maxFiles=1), "spec.export.eve.maxFiles", "needs type File"),
    "a file smaller than a few events": (
        _eve(type="File", path="/a", maxBytes=1),
        "spec.export.eve.maxBytes",
        "at least 65536",
    ),
    "a relative folder of captures": (
        {"export": {"pcap": {"directory": "pcap"}}},
        "spec.export.pcap.directory",
        'starts with "/"',
    ),
    "an empty field": ({"budget": None}, "spec.budget", "is empty"),
    "a misspelt field": ({"signature": {}}, "spec.signature", "did you mean signatures?"),
    "a field in snake case": ({"budget": {"max_packets": 5}}, "spec.budget.max_packets", "did you mean maxPackets?"),
    "a field of nothing like it": (_rule(zzz=1), "spec.sniff[0].zzz", "name, protocols, source, destination, ignore"),
}


@pytest.mark.parametrize(("spec", "path", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_no_sniffer_can_do_is_refused_once_with_its_place(
    spec: dict[str, object], path: str, words: str, sniffer_problems: Problems
) -> None:
    found = [problem for problem in sniffer_problems(**spec) if "not supported here yet" not in problem[1]]
    assert [place for place, _ in found] == [path]
    assert words in found[0][1]


TAKEN: dict[str, dict[str, object]] = {
    "nothing": {},
    "empty parts": {"attach": {}, "budget": {}, "classify": {}, "signatures": {}, "variables": {}, "export": {}},
    "lists of signatures without entries": {"signatures": {"files": [], "configMapRefs": []}},
    "everything but some": {"sniff": [{"source": {"cidrs": ["10.9.0.0/16"]}, "ignore": True}, {}]},
    "a side without its own networks": _rule(source={"cidrs": ["10.0.0.0/8"]}, destination={"ports": [53]}),
    "networks of both families": _rule(
        source={"cidrs": ["10.0.0.0/8", "fd00::/8"]}, destination={"cidrs": ["2001:db8::/32"]}
    ),
    "the whole of both families": _rule(source={"cidrs": ["0.0.0.0/0", "::/0"]}),
    "protocols without ports": _rule(protocols=["ICMP", "ICMPv6"]),
    "every form of a port": _rule(destination={"ports": [1, 65535, "1-65535", "8000-8999"]}),
    "ports of several protocols": _rule(protocols=["TCP", "UDP", "SCTP"], source={"ports": [5060]}),
    "1000 rules": {"sniff": [{"name": f"r{n}", "destination": {"ports": [n]}} for n in range(1, 1001)]},
    "a small budget": {"budget": {"payloadPackets": 1, "payloadBytes": 64, "maxPackets": 1, "adaptive": False}},
    "signatures alone": {**_match(signatureIds=[1, 2**32 - 1]), "classify": {"depth": "Off"}},
    "a file of rules beside the text": {"signatures": {**RULES, "files": ["local.rules", "/etc/rules/a b.rules"]}},
    "variables of all forms": {
        "variables": {
            "HOME_NET": "[10.0.0.0/8, fd00::/8]",
            "EXTERNAL_NET": "!$HOME_NET",
            "HTTP_PORTS": "[80,8000:8999,!8080]",
        }
    },
    "an action of every sort of match": _match(
        protocols=["TLS.Google", "BitTorrent"], categories=["Mining", "VPN"], minRisk=50, signatureIds=[1]
    ),
    "a drop for the default time": _action(action="Drop"),
    "actions without names": {"actions": [{"match": {"minRisk": n}, "action": "Alert"} for n in (1, 2)]},
    "events on the standard output": _eve(),
    "events in files": _eve(type="File", path="/var/log/sluicegate/eve.json", maxBytes=65_536, maxFiles=1),
    "events on a socket": _eve(type="UnixSocket", path="/run/sluicegate/eve.sock"),
    "a pause": {"paused": True},
}


@pytest.mark.parametrize("spec", TAKEN.values(), ids=TAKEN.keys())
def test_what_a_sniffer_can_do_is_taken(spec: dict[str, object], sniffer_problems: Problems) -> None:
    assert sniffer_problems(**spec) == []


def test_all_that_is_wrong_with_a_sniffer_is_told_at_once(sniffer_problems: Problems) -> None:
    found = sniffer_problems(
        sniff=[{"name": "a", "protocols": ["TCP", "ICMP"], "source": {"ports": [80, 0]}}, {"name": "a"}],
        budget={"payloadPackets": 30, "payloadBytes": "1k"},
        classify={"depth": "Off"},
        variables={"A": "$A", "B": "[1"},
        actions=[{"match": {"protocols": ["SSH"], "signatureIds": [1]}, "action": "Alert", "forSeconds": 1}],
        export={"eve": {"type": "File"}},
    )
    assert {path for path, _ in found} == {
        "spec.sniff[0].source.ports",
        "spec.sniff[0].source.ports[1]",
        "spec.sniff[1].name",
        "spec.budget.payloadPackets",
        "spec.budget.payloadBytes",
        "spec.variables.A",
        "spec.variables.B",
        "spec.actions[0].match.protocols",
        "spec.actions[0].match.signatureIds",
        "spec.actions[0].forSeconds",
        "spec.export.eve.path",
    }


def test_a_wrong_field_of_a_sniffer_causes_no_further_complaints(sniffer_problems: Problems) -> None:
    found = sniffer_problems(
        sniff=[{"protocols": ["tcp"], "source": {"ports": [1]}}, {"source": {"ports": [1]}}],
        classify={"depth": "None"},
        signatures={"inline": 5},
        budget={"payloadPackets": 30, "maxPackets": "x"},
        actions=[{"match": {"signatureIds": [1]}, "action": "Kill", "forSeconds": 5}],
        export={"eve": {"type": "Files", "path": "/a", "maxFiles": 3}},
    )
    assert {path for path, _ in found} == {
        "spec.sniff[0].protocols[0]",
        "spec.classify.depth",
        "spec.signatures.inline",
        "spec.budget.maxPackets",
        "spec.actions[0].action",
        "spec.export.eve.type",
    }


def test_a_sniffers_defaults_are_those_of_the_reference(sniffer: Manifest) -> None:
    spec = DpiSniffer.model_validate(sniffer()).spec
    assert spec.effective_rules == (SniffRule(),)
    assert spec.effective_rules[0].effective_protocols is None
    assert spec.budget == Budget(payload_packets=16, payload_bytes=16_384, max_packets=24, adaptive=True)
    assert spec.classify.depth is Depth.LEAN
    assert not spec.signatures.given
    assert spec.export.eve is None
    assert (spec.export.pcap.directory, spec.export.pcap.max_bytes) == ("/var/log/sluicegate", 52_428_800)
    assert (spec.actions, spec.variables, spec.attach.interfaces, spec.paused) == (None, None, None, False)
    eve = EveExport(type=EveType.FILE, path="/a")
    assert (eve.effective_max_bytes, eve.effective_max_files) == (104_857_600, 5)


def test_ports_leave_only_protocols_that_have_some() -> None:
    everything, some = SniffRule(), SniffRule(destination=Side(ports=(PortRange(80, 80),)))
    assert everything.effective_protocols is None
    assert some.effective_protocols == {SniffProtocol.TCP, SniffProtocol.UDP, SniffProtocol.SCTP}
    assert SniffRule(protocols=(SniffProtocol.ICMP,)).effective_protocols == {SniffProtocol.ICMP}


def test_only_what_lasts_has_seconds() -> None:
    match = Match(min_risk=1)
    assert Action(match=match, action=ActionType.DROP).effective_seconds == 60
    assert Action(match=match, action=ActionType.DROP, for_seconds=5).effective_seconds == 5
    assert Action(match=match, action=ActionType.ALERT).effective_seconds == 0


def test_ports_are_ranges_and_come_back_as_they_were_written(sniffer: Manifest) -> None:
    document = sniffer(sniff=[{"destination": {"ports": [80, "8000-8999", "5-5"]}}])
    built = DpiSniffer.model_validate(document)
    assert built.spec.sniff is not None
    assert built.spec.sniff[0].destination.ports == ((80, 80), (8000, 8999), (5, 5))
    written = built.model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert written["spec"]["sniff"][0]["destination"]["ports"] == [80, "8000-8999", 5]
    assert DpiSniffer.model_validate(written) == built


def test_sniffers_are_values_that_programs_can_build_with_python_names() -> None:
    built = DpiSniffer(
        metadata=ObjectMeta(name="edge", namespace="shop"),
        spec=DpiSnifferSpec(
            sniff=(SniffRule(name="web", source=Side(cidrs=(ip_network("10.0.0.0/8"),), ports=(PortRange(1, 2),))),),
            signatures=Signatures(inline="#"),
            actions=(Action(match=Match(signature_ids=(1,)), action=ActionType.DROP, for_seconds=5),),
        ),
    )
    assert built.key == ObjectKey("shop", "edge")
    assert DpiSniffer.model_validate(built.model_dump(mode="json", by_alias=True, exclude_none=True)) == built
    with pytest.raises(ValidationError, match="frozen"):
        built.spec.paused = True  # type: ignore[misc]
