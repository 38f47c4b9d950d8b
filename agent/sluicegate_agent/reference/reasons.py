"""reasons.md: from bpf/reasons.h."""

from __future__ import annotations

from sluicegate_agent.loader.request import bpf_sources
from sluicegate_agent.loader.sources import reasons
from sluicegate_agent.reference.markdown import code, literally, table
from sluicegate_agent.reference.markdown import page as whole

_KINDS = {
    "drop": "The packet was dropped.",
    "pass": "The packet is none of ours, or cannot be balanced: the node's own network stack goes on with it.",
    "punt": "The packet is ours, but XDP cannot send it: it was left to the tc program, which counts it once more.",
    "forward": "The packet was sent on, or answered.",
}

_INTRODUCTION = """
Each packet that a program sees is counted under exactly one reason, per program (`xdp`, `tc_ingress`): in
`sluicegate_packets_total` and, if dropped, `sluicegate_dropped_packets_total` ([metrics](metrics.md)), in
`sluicegate status -o wide`, and by `sluicegate why SRC:PORT VIP:PORT`, which tells it for one packet. What to do about
each: [troubleshooting](../troubleshooting.md#packet).
"""


def page() -> str:
    """The text."""
    rows = reasons(bpf_sources())
    parts = []
    for kind, meaning in _KINDS.items():
        found = [(code(each.name.lower()), literally(each.text)) for each in rows if each.kind == kind]
        parts += [f"## {kind}", meaning, table(("reason", "the packet was, or there was"), found)]
    return whole("Why a packet went where it went", _INTRODUCTION, *parts)
