"""Which traffic a sniffer looks at: where it listens, which flows it takes, and how much of each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, NamedTuple

from pydantic import ConfigDict, Field, PlainSerializer, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from sluicegate_api.addresses import Network
from sluicegate_api.cel import cel, validations
from sluicegate_api.common import PATTERN_WORDS, ApiModel, DnsLabel, LabelSelector, Violation, repeated
from sluicegate_api.interfaces import InterfaceGlobs, interface_violations

MAX_IN_RULE = 64
"""Networks, and ports, on one side of a rule."""

_PORT = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
PORT_RANGE_PATTERN = f"^{_PORT}-{_PORT}$"
PATTERN_WORDS[PORT_RANGE_PATTERN] = 'must be a port number or a range such as "8000-8999"'
_PORT_RANGE = re.compile(PORT_RANGE_PATTERN)


class PortRange(NamedTuple):
    """Ports from ``first`` to ``last``, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


def _port_problem(reason: str) -> PydanticCustomError:
    return PydanticCustomError("port_range", "{reason}", {"reason": reason})


def _parse_ports(value: object) -> PortRange:
    if isinstance(value, PortRange):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        if 1 <= value <= 65535:
            return PortRange(value, value)
        raise _port_problem(f"must be between 1 and 65535, is {value}")
    if isinstance(value, str) and value.isdigit():
        raise _port_problem(f"write the number {value} without quotes")
    found = _PORT_RANGE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise _port_problem('must be a port number or a range such as "8000-8999", of ports from 1 to 65535')
    ports = PortRange(int(found[1]), int(found[2]))
    if ports.first > ports.last:
        raise _port_problem(f'"{value}" ends before it begins: did you mean "{ports.last}-{ports.first}"?')
    return ports


def _write_ports(ports: PortRange) -> int | str:
    return ports.first if ports.first == ports.last else str(ports)


Ports = Annotated[
    PortRange,
    PlainValidator(_parse_ports),
    PlainSerializer(_write_ports, return_type=int | str),
    # That a range does not end before it begins is left to the operator: Kubernetes 1.31 takes a value that may be a
    # number or text for as long as a whole request, so that every rule on it costs too much.
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "minimum": 1,
            "maximum": 65535,
            "minLength": 3,
            "maxLength": 11,
            "pattern": PORT_RANGE_PATTERN,
        }
    ),
]


class SniffProtocol(StrEnum):
    """Protocol above IP."""

    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"
    ICMP = "ICMP"
    ICMP_V6 = "ICMPv6"


WITH_PORTS = frozenset({SniffProtocol.TCP, SniffProtocol.UDP, SniffProtocol.SCTP})


class Attach(ApiModel):
    """Where the sniffer listens; both directions. Without any field: interfaces that hold a default route."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "!has(self.interfaces) || !(has(self.podSelector) || has(self.namespaceSelector))",
                "interfaces cannot be combined with podSelector and namespaceSelector",
            ),
            cel("!has(self.namespaceSelector) || has(self.podSelector)", "namespaceSelector needs podSelector"),
        )
    )

    interfaces: InterfaceGlobs | None = None
    """Interfaces by name or glob; default those that hold a default route."""
    pod_selector: LabelSelector | None = None
    """Pods by their labels, of the sniffer's own namespace: the host's side of their interfaces."""
    namespace_selector: LabelSelector | None = None
    """With podSelector: namespaces whose pods are meant, by their labels."""

    def violations(self) -> Iterator[Violation]:
        """Either interfaces or pods."""
        if self.interfaces is not None and self.pod_selector is not None:
            yield Violation(("podSelector",), "cannot be combined with interfaces: give only one of them")
        if self.namespace_selector is not None and self.interfaces is not None:
            yield Violation(("namespaceSelector",), "cannot be combined with interfaces: give only one of them")
        elif self.namespace_selector is not None and self.pod_selector is None:
            yield Violation(("namespaceSelector",), "needs podSelector", reads=(("podSelector",),))
        yield from interface_violations(self.interfaces or ())


class Side(ApiModel):
    """One end of a flow. All that is given must hold; of a list, one entry."""

    cidrs: (
        Annotated[
            tuple[Network, ...],
            Field(min_length=1, max_length=MAX_IN_RULE, json_schema_extra={"x-kubernetes-list-type": "set"}),
        ]
        | None
    ) = None
    """Networks that hold the address; default any address."""
    ports: (
        Annotated[
            tuple[Ports, ...],
            Field(min_length=1, max_length=MAX_IN_RULE, json_schema_extra={"x-kubernetes-list-type": "set"}),
        ]
        | None
    ) = None
    """Port numbers, and ranges such as "8000-8999"; default any. Only TCP, UDP and SCTP have ports."""

    def families(self) -> frozenset[int]:
        """IP versions that the networks leave."""
        return frozenset(network.version for network in self.cidrs) if self.cidrs else frozenset({4, 6})

    def violations(self) -> Iterator[Violation]:
        """Every network and every range once."""
        for index, first, network in repeated(self.cidrs or ()):
            yield Violation(("cidrs", index), f"{network} is already listed in cidrs[{first}]")
        for index, first, ports in repeated(self.ports or ()):
            yield Violation(("ports", index), f"{ports} is already listed in ports[{first}]")


_V6 = "contains(':')"


class SniffRule(ApiModel):
    """Flows by their first packet. All that is given must hold; a rule without conditions takes everything."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "!has(self.protocols) || self.protocols.all(p, p in ['TCP', 'UDP', 'SCTP'])"
                " || !((has(self.source) && has(self.source.ports))"
                " || (has(self.destination) && has(self.destination.ports)))",
                "ports need protocols that have some: TCP, UDP and SCTP",
            ),
            cel(
                "!has(self.source) || !has(self.source.cidrs) || !has(self.destination)"
                " || !has(self.destination.cidrs)"
                f" || (self.source.cidrs.exists(c, c.{_V6}) && self.destination.cidrs.exists(c, c.{_V6}))"
                f" || (self.source.cidrs.exists(c, !c.{_V6}) && self.destination.cidrs.exists(c, !c.{_V6}))",
                "source and destination have no IP version in common",
            ),
        )
    )

    name: DnsLabel | None = None
    """Name of the rule, unique within sniff."""
    protocols: (
        Annotated[
            tuple[SniffProtocol, ...],
            Field(min_length=1, max_length=len(SniffProtocol), json_schema_extra={"x-kubernetes-list-type": "set"}),
        ]
        | None
    ) = None
    """Protocols above IP; default all."""
    source: Side = Side()
    """Who sent the flow's first packet; default anybody."""
    destination: Side = Side()
    """Whom the flow's first packet was sent to; default anybody."""
    ignore: Annotated[bool, Field(strict=True)] = False
    """While true, flows of this rule are left alone; default false."""

    @property
    def effective_protocols(self) -> frozenset[SniffProtocol] | None:
        """Protocols that the rule takes, by its ports too; None for everything above IP."""
        if self.protocols is not None:
            return frozenset(self.protocols)
        return WITH_PORTS if self.source.ports or self.destination.ports else None

    @property
    def condition(self) -> tuple[object, ...]:
        """What the rule asks for; equal for rules that take the same flows because they say the same."""
        sides = ((side.cidrs, side.ports) for side in (self.source, self.destination))
        sets = (None if part is None else frozenset(part) for side in sides for part in side)
        return self.effective_protocols, *sets

    def violations(self) -> Iterator[Violation]:
        """What no flow can meet."""
        for index, first, protocol in repeated(self.protocols or ()):
            yield Violation(("protocols", index), f"{protocol} is already listed in protocols[{first}]")
        without = [protocol for protocol in self.protocols or () if protocol not in WITH_PORTS]
        for name, side in (("source", self.source), ("destination", self.destination)):
            if without and side.ports is not None:
                yield Violation(
                    (name, "ports"), f"protocols has {without[0]}, which has no ports", reads=(("protocols",),)
                )
        if not self.source.families() & self.destination.families():
            one, other = (f"IPv{min(side.families())}" for side in (self.source, self.destination))
            yield Violation(
                ("destination", "cidrs"),
                f"are all {other}, and those of source are all {one}: no flow has both",
                reads=(("source", "cidrs"),),
            )


class Budget(ApiModel):
    """How much of a flow goes up, both directions together. Whichever is used up first ends it."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "(has(self.payloadPackets) ? self.payloadPackets : 16)"
                " <= (has(self.maxPackets) ? self.maxPackets : 24)",
                "payloadPackets (default 16) must not be more than maxPackets (default 24)",
            )
        )
    )

    payload_packets: Annotated[int, Field(strict=True, ge=1, le=4096)] = 16
    """Packets that carry data (default 16); not more than maxPackets."""
    payload_bytes: Annotated[int, Field(strict=True, ge=64, le=16_777_216)] = 16_384
    """Bytes of data (default 16384)."""
    max_packets: Annotated[int, Field(strict=True, ge=1, le=65535)] = 24
    """Packets of any sort (default 24)."""
    adaptive: Annotated[bool, Field(strict=True)] = True
    """While true (default), known flows get less when the engine cannot keep up, and new ones last of all."""

    def violations(self) -> Iterator[Violation]:
        """Packets with data are packets."""
        if self.payload_packets > self.max_packets:
            yield Violation(
                ("payloadPackets",),
                f"{self.payload_packets} is more than maxPackets, which is {self.max_packets}",
                reads=(("maxPackets",),),
            )
