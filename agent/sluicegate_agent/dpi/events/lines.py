"""Lines of EVE JSON from the engine's events, by bytes templates: an event costs microseconds, there may be many.

The fields are those of docs/reference/schemas/eve.schema.json; a test holds real output against it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from sluicegate_agent.dpi.engine import Action, Detail, Event, Reason
from sluicegate_agent.dpi.events.community import community_id
from sluicegate_agent.dpi.events.layers import layers
from sluicegate_agent.dpi.events.text import address, protocol_name, quoted, timestamp
from sluicegate_agent.dpi.records import IPV6
from sluicegate_agent.dpi.rules.model import App

_ICMP = frozenset({1, 58})
_WITH_PORTS = frozenset({6, 17, 132})
_HEAD = b'{"timestamp":"%b","flow_id":%d,"event_type":"%b",%b'
_TUPLE = b'"src_ip":"%b",%b"dest_ip":"%b",%b"proto":"%b","ip_v":%d,"community_id":"%b"'
_FLOW = (
    b',"flow":{"pkts_toserver":%d,"pkts_toclient":%d,"bytes_toserver":%d,"bytes_toclient":%d,"start":"%b","end":"%b",'
    b'"age":%d,"state":"%b","reason":"%b","alerted":%b},"sniffing":{"records":%d,"state":"%b","reason":"%b"}'
)
_ALERT = (
    b',"direction":"%b","alert":{"action":"%b","gid":%d,"signature_id":%d,"rev":%d,"signature":%b,"category":%b,'
    b'"severity":%d}'
)
_ANOMALY = b',"anomaly":{"type":"flow_risk","code":%d,"event":%b,"flow_score":%d}'
_WRAPPED = b'{"ndpi":'
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_APP_PROTOCOLS = {"TLS": b"tls", "DTLS": b"dtls", "QUIC": b"quic", "HTTP": b"http", "DNS": b"dns", "SSH": b"ssh"} | {
    "SMTP": b"smtp",
    "FTP_CONTROL": b"ftp",
    "IMAP": b"imap",
    "MQTT": b"mqtt",
    "SIP": b"sip",
    "DHCP": b"dhcp",
    "NTP": b"ntp",
    "SNMP": b"snmp",
    "Kerberos": b"krb5",
    "RDP": b"rdp",
    "SMBv1": b"smb",
    "SMBv23": b"smb",
    "TFTP": b"tftp",
    "MDNS": b"mdns",
}
"""nDPI's names of protocols that Suricata knows, and Suricata's."""
_SEEN = {
    int(app): (b',"app_proto":"%b"' % name.lower().encode(), b',"ndpi":{"proto":"%b"}' % name.encode())
    for app, name in ((App.HTTP, "HTTP"), (App.TLS, "TLS"), (App.DNS, "DNS"))
}
"""What the engine tells by a request or a ClientHello alone, so that an alert before nDPI's label can say it."""
_REASONS = {
    Reason.NOTHING: b"none",
    Reason.LABEL: b"classified",
    Reason.ENCRYPTION: b"encrypted",
    Reason.BUDGET: b"budget",
    Reason.MEMORY: b"memory",
    Reason.RULE: b"signature",
    Reason.RISK: b"risk",
    Reason.PROTOCOL: b"protocol",
    Reason.REACH: b"beyond_signatures",
}


class Names(Protocol):
    """What the engine calls its numbers."""

    def protocol_name(self, number: int) -> str:
        """Of a protocol or application."""
        ...

    def risk_name(self, bit: int) -> str:
        """Of a risk."""
        ...


class Signature(Protocol):
    """What an alert says of its rule."""

    @property
    def sid(self) -> int: ...  # noqa: D102  # the names are the rule language's own
    @property
    def gid(self) -> int: ...  # noqa: D102
    @property
    def rev(self) -> int: ...  # noqa: D102
    @property
    def message(self) -> str: ...  # noqa: D102
    @property
    def classtype(self) -> str: ...  # noqa: D102
    @property
    def priority(self) -> int: ...  # noqa: D102


class Origin(NamedTuple):
    """Whose events these are; ``unnamed`` stands for an interface without a name."""

    vnf: str
    node: str
    unnamed: str = "unknown"


class FlowTotals(NamedTuple):
    """A flow's own counts, of all its packets; those that the engine saw are fewer. Index 0 is to the server."""

    packets: Sequence[int]
    octets: Sequence[int]
    first_ns: int
    last_ns: int
    closed: bool
    end: str
    records: int
    state: str
    reason: str


class EveLines:
    """Makes lines. It remembers of each flow what its lines share, until the flow's end has been written."""

    def __init__(self, origin: Origin, names: Names, signatures: Mapping[int, Signature] = {}) -> None:
        """``signatures`` by the id that alerts carry."""
        self._names = names
        self._signatures = signatures
        self._origin = origin
        self._vnf = _whose(origin)
        self._no_interface = self._interface("")
        self._interfaces: dict[int, bytes] = {}
        self._flows: dict[int, bytes] = {}
        self._risks: dict[int, int] = {}
        self._risk_names: dict[int, bytes] = {}
        self._alerted: set[int] = set()
        self._apps: dict[tuple[int, int], tuple[bytes, bytes]] = {}

    def name_interfaces(self, names: Sequence[str] | Mapping[int, str]) -> None:
        """Names by index, or those of interfaces 1, 2, and so on; 0 is none. A flow keeps the name it began with."""
        by_index = names if isinstance(names, Mapping) else dict(enumerate(names, 1))
        self._interfaces = {index: self._interface(name) for index, name in by_index.items()}

    def classified(self, event: Event, detail: Detail, text: bytes) -> Iterator[bytes]:
        """Lines for a flow whose label is final: its layers, and its risks."""
        for layer in layers(unwrapped(text)):
            fields = _encode(layer.fields).encode("utf-8", "replace")
            name = layer.type.encode()
            yield b'%b,"%b":%b}\n' % (self._head(name, event, detail), name, fields)
        yield from self._anomalies(event, detail)

    def alert(self, event: Event, detail: Detail) -> bytes:
        """The line for a rule that matched."""
        self._alerted.add(event.flow_id)
        rule = self._signatures.get(event.rule)
        found = _ALERT % (
            b"to_client" if event.direction else b"to_server",
            b"blocked" if event.action == Action.DROP else b"allowed",
            rule.gid if rule else 1,
            rule.sid if rule else event.rule,
            rule.rev if rule else 0,
            quoted(rule.message if rule else ""),
            quoted(rule.classtype if rule else ""),
            rule.priority if rule else 3,
        )
        known = self._app(event) if event.master or event.app else _SEEN.get(detail.layer, (b"", b""))
        return self._head(b"alert", event, detail) + found + b"".join(known) + b"}\n"

    def action(self, event: Event, detail: Detail, name: str, *, blocked: bool) -> bytes:
        """The alert for an action of the sniffer that matched without a rule."""
        self._alerted.add(event.flow_id)
        found = _ALERT % (
            *(b"to_server", b"blocked" if blocked else b"allowed", 0, 0, 0),
            *(quoted(f"action {name}"), b'""', 3),
        )
        return self._head(b"alert", event, detail) + found + self._label(event) + b"}\n"

    def flow(self, event: Event, detail: Detail, text: bytes, totals: FlowTotals) -> Iterator[bytes]:
        """Lines for a flow that is over; nothing more comes of it."""
        yield from self._anomalies(event, detail)
        (to_server, to_client), (octets_to_server, octets_to_client) = totals.packets, totals.octets
        state = b"closed" if totals.closed else b"established" if to_server and to_client else b"new"
        alerted = event.flow_id in self._alerted
        found = _FLOW % (
            *(to_server, to_client, octets_to_server, octets_to_client),
            *(timestamp(totals.first_ns), timestamp(totals.last_ns)),
            max(totals.last_ns - totals.first_ns, 0) // 1_000_000_000,
            *(state, totals.end.encode(), b"true" if alerted else b"false"),
            *(totals.records, totals.state.encode(), totals.reason.encode()),
        )
        ndpi = b',"ndpi":' + clean(unwrapped(text)) if text else self._label(event)
        app = self._app(event)[0]
        yield self._head(b"flow", event, detail) + app + found + ndpi + b"}\n"
        self._flows.pop(event.flow_id, None)
        self._risks.pop(event.flow_id, None)
        self._alerted.discard(event.flow_id)

    def stats(self, time_ns: int, groups: Mapping[str, Mapping[str, int]]) -> bytes:
        """The line of counters."""
        return stats_line(self._origin, time_ns, groups)

    def _anomalies(self, event: Event, detail: Detail) -> Iterator[bytes]:
        """A line for each risk that was not told before."""
        new = detail.risk & ~self._risks.get(event.flow_id, 0)
        if not new:
            return
        self._risks[event.flow_id] = detail.risk
        head = self._head(b"anomaly", event, detail)
        while new:
            bit = (new & -new).bit_length() - 1
            new &= new - 1
            yield b"%b%b}\n" % (head, _ANOMALY % (bit, self._risk(bit), detail.score))

    def _risk(self, bit: int) -> bytes:
        name = self._risk_names.get(bit)
        if name is None:
            name = self._risk_names[bit] = quoted(self._names.risk_name(bit))
        return name

    def _interface(self, name: str) -> bytes:
        return b'%b,"in_iface":%b,' % (self._vnf, quoted(name or self._origin.unnamed))

    def _head(self, kind: bytes, event: Event, detail: Detail) -> bytes:
        fixed = self._flows.get(event.flow_id)
        if fixed is None:
            fixed = self._flows[event.flow_id] = self._tuple(event, detail)
        return _HEAD % (timestamp(event.ts_ns), event.flow_id, kind, fixed)

    def _tuple(self, event: Event, detail: Detail) -> bytes:
        """What all lines of a flow say."""
        v6 = event.flags & IPV6
        client, server = (event.client, event.server) if v6 else (event.client[:4], event.server[:4])
        protocol = event.l4_proto
        if protocol in _WITH_PORTS:
            source, destination = b'"src_port":%d,' % event.client_port, b'"dest_port":%d,' % event.server_port
        elif protocol in _ICMP:
            source, destination = b"", b'"icmp_type":%d,"icmp_code":%d,' % (event.client_port, event.server_port)
        else:
            source = destination = b""
        name = community_id(protocol, (client, event.client_port), (server, event.server_port)).encode()
        fixed = self._interfaces.get(event.ifindex, self._no_interface) + _TUPLE % (
            *(address(client), source, address(server), destination),
            *(protocol_name(protocol), 6 if v6 else 4, name),
        )
        if detail.vlan:
            fixed += b',"vlan":[%d]' % detail.vlan
        if detail.tunnel:
            fixed += b',"tunnel":{"id":%d}' % detail.tunnel
        return fixed

    def _label(self, event: Event) -> bytes:
        return self._app(event)[1]

    def _app(self, event: Event) -> tuple[bytes, bytes]:
        """Suricata's name for the protocol and nDPI's for both, as fields; empty where there is none."""
        key = (event.master, event.app)
        known = self._apps.get(key)
        if known is None:
            master, app = (self._names.protocol_name(number) if number else "" for number in key)
            label = ".".join(name for name in (master, app if app != master else "") if name)
            name = _APP_PROTOCOLS.get(master or app)
            known = self._apps[key] = (
                b',"app_proto":"%b"' % name if name else b"",
                b',"ndpi":{"proto":%b}' % quoted(label) if label else b"",
            )
        return known


def stats_line(origin: Origin, time_ns: int, groups: Mapping[str, Mapping[str, int]]) -> bytes:
    """A line of counters, by the groups that the schema names under "stats"."""
    found = json.dumps(groups, separators=(",", ":")).encode()
    return b'{"timestamp":"%b","event_type":"stats",%b,"stats":%b}\n' % (timestamp(time_ns), _whose(origin), found)


def _whose(origin: Origin) -> bytes:
    node = quoted(origin.node)
    return b'"vnf":%b,"node":%b,"host":%b' % (quoted(origin.vnf), node, node)


def unwrapped(text: bytes) -> bytes:
    """nDPI's object of a flow without the one around it that only names it."""
    return text[len(_WRAPPED) : -1] if text.startswith(_WRAPPED) else text


def clean(text: bytes) -> bytes:
    """nDPI's object as valid text on one line: names in it are the packet's bytes, whatever these were."""
    if not text.isascii():
        text = text.decode("utf-8", "replace").encode()
    return text.replace(b"\n", b" ") if b"\n" in text else text


def reason_word(reason: int) -> str:
    """The word for why a flow got its verdict."""
    return _REASONS.get(Reason(reason), b"none").decode()
