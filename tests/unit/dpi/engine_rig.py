"""An engine without kernel or root: packets from scapy become records of a ring in memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw

from sluicegate_agent.dpi import records
from sluicegate_agent.dpi.engine import (
    Batch,
    CompiledRules,
    Detail,
    Engine,
    Event,
    Kind,
    Limits,
    Policy,
    Tables,
    compile_rules,
)
from sluicegate_agent.dpi.ndpi_provider import NdpiLibrary, find
from sluicegate_agent.dpi.records import MemoryRing
from sluicegate_agent.dpi.rules import tables
from sluicegate_agent.dpi.rules.tables import NO_OFFSET

CLIENT, SERVER = "192.0.2.10", "198.51.100.20"
CLIENT6, SERVER6 = "2001:db8::10", "2001:db8::20"
SECOND = 1_000_000_000
ALL = {(kind, None): 3 for kind in Kind}
SMALL = Limits(max_flows=1024, max_undecided=256, max_events=512, blob_bytes=1 << 20)
EVERYTHING = Policy(max_packets=0, payload_packets=0, payload_bytes=0)


def Pattern(  # noqa: N802 - stands for the class
    expression: bytes,
    buffer: int = 0,
    flags: int = 2,
    directions: int = 3,
    min_offset: int = 0,
    max_offset: int = NO_OFFSET,
) -> tables.Pattern:
    return tables.Pattern(expression, flags, buffer, directions, min_offset, max_offset)


def Rule(sid: int, need: int = 1, **fields: int) -> tables.Rule:  # noqa: N802 - stands for the class
    return tables.Rule(sid, need, **fields)


@dataclass
class Rules:
    """Rules with their patterns: each pattern gives one bit to the rule it was added with."""

    patterns: list[tables.Pattern] = field(default_factory=list)
    first_term: list[int] = field(default_factory=lambda: [0])
    terms: list[tuple[int, int]] = field(default_factory=list)
    rules: list[tables.Rule] = field(default_factory=list)
    bare: list[int] = field(default_factory=list)
    address_sets: list[list[tuple[bytes, bytes]]] = field(default_factory=lambda: [[]])
    port_sets: list[list[tuple[int, int]]] = field(default_factory=lambda: [[]])
    reach: tuple[int, int] = (0, 0)
    keep_for_app: list[int] = field(default_factory=lambda: [1] * 256)

    def add(self, rule: tables.Rule, *patterns: tables.Pattern) -> "Rules":
        """Append a rule; its n-th pattern sets bit n."""
        for bit, pattern in enumerate(patterns):
            self.patterns.append(pattern)
            self.terms.append((len(self.rules), 1 << bit))
            self.first_term.append(len(self.terms))
        if not rule.need:
            self.bare.append(len(self.rules))
        self.rules.append(rule)
        return self

    def compiled(self) -> CompiledRules:
        return compile_rules(
            tables.RuleTables(
                tuple(self.patterns),
                tuple(self.first_term),
                tuple(self.terms),
                tuple(self.rules),
                tuple(self.bare),
                tuple(map(tuple, self.address_sets)),
                tuple(map(tuple, self.port_sets)),
                self.reach,
                tuple(self.keep_for_app),
            )
        )


def ndpi() -> NdpiLibrary:
    found = find()
    assert isinstance(found, NdpiLibrary), found
    return found


def facts_of(packet: Packet, flow: int, *, reverse: bool = False) -> dict[str, int]:
    """What a record says of a packet of this slot, all but its time."""
    l3 = bytes(packet)
    six = IPv6 in packet
    l4_off = 40 if six else packet[IP].ihl * 4 if packet[IP].ihl else 20
    proto = packet[IPv6].nh if six else l3[9]
    header = {6: 20, 17: 8}.get(proto, 0)
    if TCP in packet and len(l3) > l4_off + 12:
        header = (l3[l4_off + 12] >> 4) * 4
    pl_off = min(l4_off + header, len(l3))
    return {
        "flow_id": records.flow_id(flow, 7),
        "l4_off": l4_off,
        "pl_off": pl_off,
        "pl_len": len(l3) - pl_off,
        "l4_proto": proto,
        "tcp_flags": int(packet[TCP].flags) & 0xFF if TCP in packet else 0,
        "flags": (records.REVERSE if reverse else 0) | (records.IPV6 if six else 0),
        "wire_len": len(l3) + 14,
    }


class Rig:
    """An engine, its ring, and a clock that the test moves."""

    def __init__(
        self,
        *,
        rules: Rules | None = None,
        classify: bool = False,
        limits: Limits = SMALL,
        policy: Policy = EVERYTHING,
        names: Tables | None = None,
    ) -> None:
        self.engine = Engine(limits, ndpi() if classify else None)
        self.engine.set_tables(names or Tables(want=ALL))
        self.engine.set_policy(0, policy)
        if rules is not None:
            self.engine.load_rules(rules.compiled())
        self.ring = MemoryRing()
        self.now = SECOND
        self.batches: list[Batch] = []

    def put(self, packet: Packet, flow: int = 1, *, reverse: bool = False, **changes: int) -> None:
        """One packet as a record; `changes` contradict what it says."""
        self.now += SECOND // 1000
        fields = facts_of(packet, flow, reverse=reverse) | {"ts_ns": self.now}
        assert self.ring.put(bytes(packet), **(fields | changes))

    def run(self) -> list[Event]:
        """All that is in the ring; the events it made, which `detail` and `text` know from then on."""
        before = len(self.events())
        while self.ring.produced:
            batch = self.engine.run(self.ring)
            self.batches.append(batch)
            assert batch.taken or len(batch), "the engine does not move"
        return self.events()[before:]

    def finish(self) -> list[Event]:
        """End all flows."""
        before = len(self.events())
        while True:
            batch = self.engine.flush(self.now)
            self.batches.append(batch)
            if not batch.taken:
                return self.events()[before:]

    def events(self) -> list[Event]:
        return [event for batch in self.batches for event in batch]

    def find(self, event: Event) -> Batch:
        return next(batch for batch in self.batches if any(other is event or other == event for other in batch))

    def detail(self, event: Event) -> Detail:
        return self.find(event).detail(event)

    def text(self, event: Event) -> bytes:
        return self.find(event).text(event)

    def alerts(self) -> list[int]:
        return [event.rule for event in self.events() if event.kind == Kind.ALERT]

    def close(self) -> None:
        self.engine.close()

    def __enter__(self) -> "Rig":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Talk:
    """One TCP connection: sequence numbers and directions are kept."""

    def __init__(self, rig: Rig, flow: int = 1, port: int = 80, client_port: int = 40000, *, six: bool = False) -> None:
        self.rig, self.flow, self.port, self.client_port, self.six = rig, flow, port, client_port, six
        self.sequence = [1000, 0xFFFFFF00]  # the server's wraps soon
        self.index = 0

    def packet(self, reverse: bool, flags: str, payload: bytes = b"", sequence: int | None = None) -> Packet:
        ports = (self.port, self.client_port) if reverse else (self.client_port, self.port)
        me, other = (1, 0) if reverse else (0, 1)
        addresses = (CLIENT6, SERVER6) if self.six else (CLIENT, SERVER)
        ip = (IPv6 if self.six else IP)(src=addresses[me], dst=addresses[other])
        at = self.sequence[me] if sequence is None else sequence
        tcp = TCP(sport=ports[0], dport=ports[1], flags=flags, seq=at % 2**32, ack=self.sequence[other] % 2**32)
        return ip / tcp / Raw(payload) if payload else ip / tcp

    def put(self, packet: Packet, *, reverse: bool, **changes: int) -> None:
        self.index += 1
        self.rig.put(packet, self.flow, reverse=reverse, **({"index": self.index} | changes))

    def shake(self) -> "Talk":
        for reverse, flags in ((False, "S"), (True, "SA"), (False, "A")):
            self.put(self.packet(reverse, flags), reverse=reverse)
            if "S" in flags:
                self.sequence[reverse] += 1
        return self

    def say(self, payload: bytes, *, reverse: bool = False, **changes: int) -> "Talk":
        """Send in order."""
        self.put(self.packet(reverse, "PA", payload), reverse=reverse, **changes)
        self.sequence[reverse] += len(payload)
        return self

    def say_at(self, offset: int, payload: bytes, *, reverse: bool = False) -> "Talk":
        """Send with another sequence number than the next, which stays as it is."""
        packet = self.packet(reverse, "PA", payload, self.sequence[reverse] + offset)
        self.put(packet, reverse=reverse)
        return self

    def bye(self) -> "Talk":
        for reverse in (False, True):
            self.put(self.packet(reverse, "FA"), reverse=reverse)
            self.sequence[reverse] += 1
        return self


def datagram(payload: bytes, *, port: int = 5000, reverse: bool = False) -> Packet:
    ports = (port, 41000) if reverse else (41000, port)
    addresses = (SERVER, CLIENT) if reverse else (CLIENT, SERVER)
    return IP(src=addresses[0], dst=addresses[1]) / UDP(sport=ports[0], dport=ports[1]) / Raw(payload)


def client_hello(name: str, padding: int = 0) -> bytes:
    """A TLS 1.2 hello with a server name, by hand; `padding` bytes of another extension come before it."""

    def vector(size: int, body: bytes) -> bytes:
        return len(body).to_bytes(size, "big") + body

    server_name = vector(2, vector(2, b"\0" + vector(2, name.encode())))
    extensions = (
        b"\0\x15" + vector(2, bytes(padding)) + b"\0\0" + server_name + b"\0\x0a" + vector(2, vector(2, b"\0\x1d"))
    )
    body = b"\x03\x03" + bytes(range(32)) + vector(1, b"") + vector(2, b"\x13\x01\xc0\x2f") + vector(1, b"\0")
    hello = b"\x01" + vector(3, body + vector(2, extensions))
    return b"\x16\x03\x01" + vector(2, hello)


def request(uri: str = "/", host: str = "www.example.com", agent: str = "test/1.0", method: str = "GET") -> bytes:
    return f"{method} {uri} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nAccept: */*\r\n\r\n".encode()


def chunks(data: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    """Cut into these sizes, the rest last."""
    at = 0
    for size in sizes:
        yield data[at : at + size]
        at += size
    yield data[at:]
