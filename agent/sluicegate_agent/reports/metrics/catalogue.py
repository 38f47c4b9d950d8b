"""All metrics of our own, in the order of a scrape."""

from __future__ import annotations

from typing import Final

from sluicegate_agent.reports.metrics import answers, health, node, sniffing, traffic, weights
from sluicegate_agent.reports.metrics.definition import Definition

BALANCERS: Final = traffic.BALANCERS
PORTS: Final = traffic.PORTS
BACKENDS: Final = (*traffic.BACKENDS, *answers.BACKENDS, *weights.BACKENDS, *health.BACKENDS)
SNIFFERS: Final = sniffing.SNIFFERS
WORKERS: Final = sniffing.WORKERS
NODE: Final = node.METRICS

DEFINITIONS: Final[tuple[Definition, ...]] = (
    *(metric.definition for metric in BALANCERS),
    *(metric.definition for metric in PORTS),
    *(metric.definition for metric in BACKENDS),
    *(metric.definition for metric in SNIFFERS),
    *(metric.definition for metric in WORKERS),
    *(metric.definition for metric in NODE),
)
