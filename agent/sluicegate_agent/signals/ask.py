"""One question, asked once: what each kind of signal has in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sluicegate_agent.asking.connection import OwnTroubleError, UnansweredError, converse
from sluicegate_agent.signals.agent_check import read_agent
from sluicegate_agent.signals.errors import SignalError
from sluicegate_agent.signals.model import Report
from sluicegate_agent.signals.orca import ask_load
from sluicegate_agent.signals.prometheus import ask_prometheus
from sluicegate_agent.signals.samples import Samples
from sluicegate_agent.signals.targets import AgentQuestion, LoadQuestion, QueryQuestion, Question

Answer = Report | Samples
"""A report of one backend, or the samples of all that share a query."""

Ask = Callable[[Question, float], Awaitable[Answer]]
"""Asks one question and has its answer within so many seconds, or raises SignalError and nothing else."""


async def ask(question: Question, seconds: float) -> Answer:
    """Ask ``question`` once; the answer is complete within ``seconds``. Raises SignalError."""
    try:
        match question:
            case AgentQuestion(address, port):
                return await converse(address, port, seconds, lambda connection: read_agent(connection, seconds))
            case LoadQuestion(address, port):
                return await converse(
                    address, port, seconds, lambda connection: ask_load(connection, question, seconds)
                )
            case QueryQuestion():
                return await ask_prometheus(question, seconds)
    except UnansweredError as failure:
        raise SignalError(str(failure)) from failure
    except OwnTroubleError as trouble:
        raise SignalError(f"could not ask: {trouble}") from trouble
