"""The Prometheus endpoint. Names, labels and units are an API: they may grow, not change."""

from sluicegate_agent.reports.metrics.sample import Sample
from sluicegate_agent.reports.metrics.server import MetricsServer

__all__ = ["MetricsServer", "Sample"]
