"""What a sniffer writes to its file of events, read while it is being written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

NAMES = {"tls": "sni", "http": "hostname", "dns": "rrname"}
"""Events about what is inside of a flow, and the field that has the name the client wanted."""


@dataclass(frozen=True, slots=True)
class SniffEvent:
    """One event, as far as the lab looks at it. Counts are of the whole flow, index 0 to the server; 0 before its end.

    ``records`` are packets of the flow that were sent up. ``label`` is nDPI's, ``name`` what the client asked for.
    """

    kind: str
    flow: int
    sniffer: str
    interface: str
    client: tuple[str, int]
    server: tuple[str, int]
    label: str = ""
    name: str = ""
    packets: tuple[int, int] = (0, 0)
    records: int = 0
    state: str = ""
    reason: str = ""
    signature: int = 0
    message: str = ""
    action: str = ""
    fields: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Read one line of EVE JSON."""
        row = json.loads(line)
        kind = row["event_type"]
        flow, sniffing, alert = (row.get(part, {}) for part in ("flow", "sniffing", "alert"))
        return cls(
            kind,
            row.get("flow_id", 0),
            row["vnf"],
            row.get("in_iface", ""),
            (row.get("src_ip", ""), row.get("src_port", 0)),
            (row.get("dest_ip", ""), row.get("dest_port", 0)),
            label=row.get("ndpi", {}).get("proto", ""),
            name=row[kind].get(NAMES[kind], "") if kind in NAMES else "",
            packets=(flow.get("pkts_toserver", 0), flow.get("pkts_toclient", 0)),
            records=sniffing.get("records", 0),
            state=sniffing.get("state", ""),
            reason=sniffing.get("reason", ""),
            signature=alert.get("signature_id", 0),
            message=alert.get("signature", ""),
            action=alert.get("action", ""),
            fields=row,
        )


class EventFile:
    """A file that somebody else appends lines to; it need not be there yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0

    def take(self) -> Iterator[SniffEvent]:
        """Whole lines that came since the last call."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._read)
            fresh = file.read()
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.decode().splitlines():
            yield SniffEvent.from_json(line)
