"""Events as one line for people. Names in them are a stranger's bytes: what a terminal would obey is spelled out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

Event = Mapping[str, Any]
_UNITS = ("B", "kB", "MB", "GB", "TB")


def compact(event: Event) -> str:
    """For flows and alerts: when, which sniffer, where, who with whom, and what it was."""
    what = _alert(event) if event.get("event_type") == "alert" else _flow(event)
    place = f"{event.get('vnf', '')} {event.get('in_iface', '')}"
    return printable(f"{_time(event)} {place} {event.get('proto', '')} {_ends(event)} {what}")


def printable(text: str) -> str:
    """The text with every character that is not to be seen spelled out: an escape sequence becomes \\x1b[2J."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def octets_text(count: int) -> str:
    """1.2 kB."""
    size, unit = float(count), 0
    while size >= 1000 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.1f} {_UNITS[unit]}" if unit and size < 100 else f"{size:.0f} {_UNITS[unit]}"


def _flow(event: Event) -> str:
    flow, sniffing = event.get("flow") or {}, event.get("sniffing") or {}
    packets = f"{flow.get('pkts_toserver', 0)}/{flow.get('pkts_toclient', 0)} packets"
    to_server, to_client = (octets_text(flow.get(f"bytes_to{end}", 0)) for end in ("server", "client"))
    sent = f"{sniffing.get('records', 0)} sent up, {sniffing.get('state', '')} ({sniffing.get('reason', '')})"
    alerted = ", alerted" if flow.get("alerted") else ""
    return f"{_label(event)}: {packets}, {to_server}/{to_client}, {flow.get('state', '')}; {sent}{alerted}"


def _alert(event: Event) -> str:
    alert = event.get("alert") or {}
    rule = f"sid {alert['signature_id']}, " if alert.get("signature_id") else ""
    fate = "BLOCKED" if alert.get("action") == "blocked" else "allowed"
    return f"{_label(event)}: {alert.get('signature', '')} ({rule}severity {alert.get('severity', '')}) {fate}"


def _label(event: Event) -> str:
    ndpi = event.get("ndpi") or {}
    name = ndpi.get("hostname")
    return f"{ndpi.get('proto') or 'Unknown'} {name}" if name else str(ndpi.get("proto") or "Unknown")


def _ends(event: Event) -> str:
    return f"{_end(event, 'src')} -> {_end(event, 'dest')}"


def _end(event: Event, end: str) -> str:
    address, port = str(event.get(f"{end}_ip", "?")), event.get(f"{end}_port")
    if port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _time(event: Event) -> str:
    """Of the day, here."""
    try:
        then = datetime.fromisoformat(str(event.get("timestamp"))).astimezone()
    except ValueError:
        return "?"
    return then.strftime("%H:%M:%S.%f")[:-3]
