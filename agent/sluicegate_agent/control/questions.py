"""What people ask about flows and packets: read from their words once, for the command line and the agent alike."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Self

from sluicegate_agent.datapath.flowquery import FlowState
from sluicegate_agent.datapath.model import Endpoint, IPAddress, IPNetwork, Protocol

DEFAULT_FLOWS = 1000
MOST_FLOWS = 10_000
"""An answer is one message over the control socket, about 300 bytes a flow."""

_MOST_PORT = 65_535


class QuestionError(ValueError):
    """Words that cannot be understood. The message tells which, and how to write them."""


@dataclass(frozen=True, slots=True)
class FlowQuestion:
    """Which flows to list. ``balancer`` is NAME or NAMESPACE/NAME; ports are None for any."""

    vip: tuple[IPAddress, int | None] | None = None
    client: IPNetwork | None = None
    backend: tuple[IPAddress, int | None] | None = None
    balancer: str | None = None
    state: FlowState | None = None
    protocol: Protocol | None = None
    limit: int = DEFAULT_FLOWS

    @classmethod
    def parse(cls, words: dict[str, str]) -> Self:
        """From the options of the command, those that were given. Raises QuestionError."""
        known = {"vip", "client", "backend", "lb", "state", "protocol", "limit"}
        if unknown := words.keys() - known:
            raise QuestionError(f"flows cannot be chosen by {', '.join(sorted(unknown))}")
        return cls(
            vip=place(words["vip"], "--vip") if "vip" in words else None,
            client=_network(words["client"]) if "client" in words else None,
            backend=place(words["backend"], "--backend") if "backend" in words else None,
            balancer=words["lb"].removeprefix("lb/") if "lb" in words else None,
            state=_state(words["state"]) if "state" in words else None,
            protocol=protocol_of(words["protocol"]) if "protocol" in words else None,
            limit=_limit(words["limit"]) if "limit" in words else DEFAULT_FLOWS,
        )


@dataclass(frozen=True, slots=True)
class PacketQuestion:
    """A packet of a client to a VIP: why does it get where it gets?"""

    client: IPAddress
    client_port: int
    vip: Endpoint

    @classmethod
    def parse(cls, words: dict[str, str]) -> Self:
        """From ``client`` (SRC:PORT), ``vip`` (VIP:PORT) and ``protocol``, TCP when missing. Raises QuestionError."""
        client, client_port = _whole(words.get("client", ""), "SRC:PORT")
        vip, vip_port = _whole(words.get("vip", ""), "VIP:PORT")
        if client.version != vip.version:
            raise QuestionError(f"{client} and {vip} are of different families: no packet has both")
        return cls(client, client_port, Endpoint(vip, protocol_of(words.get("protocol", "tcp")), vip_port))

    @property
    def client_text(self) -> str:
        """``address:port`` of the client."""
        return text_of(self.client, self.client_port)


def place(text: str, name: str) -> tuple[IPAddress, int | None]:
    """``ADDRESS`` or ``ADDRESS:PORT``; an IPv6 address with a port stands in brackets. ``name`` is for the message."""
    host, port = _split(text)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise QuestionError(f"{name}: {text!r} is no address: {_how(text)}") from None
    return address, None if port is None else _port(port, text, name)


def protocol_of(text: str) -> Protocol:
    """tcp or udp, in any case."""
    try:
        return Protocol[text.upper()]
    except KeyError:
        raise QuestionError(f"{text!r} is no protocol that is balanced: write tcp or udp") from None


def text_of(address: IPAddress, port: int) -> str:
    """The inverse of :func:`place`."""
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def _whole(text: str, name: str) -> tuple[IPAddress, int]:
    address, port = place(text, name)
    if port is None:
        raise QuestionError(f"{name}: {text!r} has no port: {_how(text)}")
    return address, port


def _split(text: str) -> tuple[str, str | None]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            return text, None
        return host, rest[1:] if rest else None
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, port
    return text, None


def _port(text: str, whole: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= _MOST_PORT):
        raise QuestionError(f"{name}: {text!r} in {whole!r} is no port: write a number from 1 to {_MOST_PORT}")
    return int(text)


def _how(text: str) -> str:
    if text.count(":") > 1:
        return "write [2001:db8::1]:80, with brackets around the address"
    return "write 10.0.0.1:80 or [2001:db8::1]:80"


def _network(text: str) -> IPNetwork:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise QuestionError(
            f"--client: {text!r} is neither an address nor a network: write 10.1.0.2 or 10.1.0.0/16"
        ) from None


def _state(text: str) -> FlowState:
    try:
        return FlowState(text)
    except ValueError:
        raise QuestionError(f"--state: {text!r} is none: choose from {', '.join(FlowState)}") from None


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MOST_FLOWS):
        raise QuestionError(f"--limit: {text!r} is no number from 1 to {MOST_FLOWS}: more do not fit into one answer")
    return int(text)
