"""Whose load is asked for, and what is asked."""

from __future__ import annotations

from dataclasses import dataclass

from sluicegate_agent.datapath.model import IPAddress


@dataclass(frozen=True, slots=True)
class AgentQuestion:
    """One line from an agent in HAProxy's agent-check grammar, which listens here."""

    address: IPAddress
    port: int


@dataclass(frozen=True, slots=True)
class LoadQuestion:
    """A GET that a backend answers with its load as JSON."""

    address: IPAddress
    port: int
    path: str


@dataclass(frozen=True, slots=True)
class QueryQuestion:
    """A PromQL expression whose result has one sample per backend. ``url`` is Prometheus' base URL."""

    url: str
    query: str


Question = AgentQuestion | LoadQuestion | QueryQuestion
"""What is asked of whom. Backends with equal questions share one answer."""


@dataclass(frozen=True, slots=True)
class SignalTarget:
    """One backend whose load is asked for every ``interval`` seconds.

    ``address`` and ``port`` are the backend's own; samples of a query are matched to it by them. They need not be
    those of the question: an agent listens on a port of its own.
    """

    question: Question
    address: IPAddress
    port: int
    interval: float = 1.0
