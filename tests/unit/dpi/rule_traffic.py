"""What rules are tried on: one flow, as units in the order in which the engine would see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

from sluicegate_agent.dpi.rules.model import App, Buffer
from sluicegate_agent.dpi.rules.sets import address_number

TO_SERVER, TO_CLIENT = 0, 1


@dataclass(frozen=True)
class Piece:
    """A segment or datagram, and the fields that it completes."""

    data: bytes = b""
    direction: int = TO_SERVER
    fields: Mapping[Buffer, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Traffic:
    """A flow that is in order and known to be of one application from its start."""

    pieces: tuple[Piece, ...]
    l4: int = 6
    app: App = App.ANY
    client: str = "10.0.0.1"
    server: str = "203.0.113.5"
    client_port: int = 40000
    server_port: int = 80

    def ends(self, direction: int) -> tuple[int, int, int, int]:
        """Source, source port, destination and destination port of a packet."""
        client = address_number(ip_address(self.client)), self.client_port
        server = address_number(ip_address(self.server)), self.server_port
        return (*client, *server) if direction == TO_SERVER else (*server, *client)


def stream(*pieces: bytes, **how: object) -> Traffic:
    """A flow from client to server."""
    return Traffic(tuple(Piece(piece) for piece in pieces), **how)  # type: ignore[arg-type]


def request(**fields: bytes) -> Traffic:
    """One HTTP request of which the rules see these fields, and a payload that names them all."""
    found = {Buffer[name.upper()]: value for name, value in fields.items()}
    return Traffic((Piece(b"\n".join(found.values()), TO_SERVER, found),), app=App.HTTP)
