"""One link of a chain of checks, and the ids by which people find its page. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum


class CheckId(StrEnum):
    """Every id that ``why`` can answer with: docs/troubleshooting.md has a section of that name. They never change."""

    AGENT = "agent"
    ACCEPTED = "accepted"
    VIP = "vip"
    INTERFACES = "interfaces"
    FORWARDING = "forwarding"
    ROUTES = "routes"
    NEIGHBOURS = "neighbours"
    MTU = "mtu"
    HEALTH = "health"
    TABLE = "table"
    WEIGHTS = "weights"
    TRAFFIC = "traffic"
    DROPS = "drops"
    SOURCES = "sources"
    LIMITS = "limits"
    FLOW = "flow"
    CAPACITY = "capacity"
    RETURN = "return"
    PACKET = "packet"
    AGREEMENT = "agreement"
    SNIFFING = "sniffing"
    ENGINE = "engine"
    SIGNATURES = "signatures"
    SNIFFED = "sniffed"
    SENT = "sent"
    LOSSES = "losses"
    EVENTS = "events"


@dataclass(frozen=True, slots=True)
class Check:
    """One link of the chain. ``id`` names the page of the troubleshooting guide, ``next`` what to do."""

    id: CheckId
    ok: bool
    message: str
    next: str = ""


def explanation(checks: Sequence[Check]) -> dict[str, object]:
    """The answer as ``why -o json`` prints it."""
    return {"ok": all(check.ok for check in checks), "checks": [asdict(check) for check in checks]}
