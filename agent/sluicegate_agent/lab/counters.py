"""What the programs did with packets, as the agent's metrics tell."""

from __future__ import annotations

import http.client
import socket
from collections import Counter

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from sluicegate_agent.lab.namespace import Namespace

METRICS_PORT = 9431
"""Where the lab's agents serve their metrics, on the loopback of the balancer's namespace."""

PacketCounts = Counter[tuple[str, str]]
"""Packets by verdict (pass, punt, forward or drop) and reason, of all programs together."""

_SECONDS = 10.0


def packet_counts(balancer: Namespace) -> PacketCounts:
    """Ask the agent in this namespace; OSError while none serves."""
    counts: PacketCounts = Counter()
    for sample in _samples(balancer, "sluicegate_packets_total"):
        counts[sample.labels["verdict"], sample.labels["reason"]] += int(sample.value)
    return counts


def sniffed_packets(balancer: Namespace) -> Counter[str]:
    """Packets that sniffers saw, by what became of them; OSError while no agent serves."""
    counts: Counter[str] = Counter()
    for sample in _samples(balancer, "sluicegate_dpi_packets_total"):
        counts[sample.labels["outcome"]] += int(sample.value)
    return counts


def _samples(balancer: Namespace, name: str) -> list[Sample]:
    with balancer.inside():
        endpoint = socket.create_connection(("127.0.0.1", METRICS_PORT), _SECONDS)
    connection = http.client.HTTPConnection("127.0.0.1", METRICS_PORT, timeout=_SECONDS)
    connection.sock = endpoint
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    families = text_string_to_metric_families(text)
    return [sample for family in families for sample in family.samples if sample.name == name]


def drops(counts: PacketCounts) -> Counter[str]:
    """The reasons of the packets that were dropped."""
    return Counter({reason: count for (verdict, reason), count in counts.items() if verdict == "drop" and count})


def of_reason(counts: PacketCounts, reason: str) -> int:
    """Packets under one reason; a packet that XDP leaves to tc is there once for each."""
    return sum(count for (_, name), count in counts.items() if name == reason)
