"""The check that a target asks for."""

from __future__ import annotations

from sluicegate_agent.health.http import check_http
from sluicegate_agent.health.model import Outcome, Target
from sluicegate_agent.health.tcp import check_tcp


async def probe(target: Target) -> Outcome:
    """Carry out one check of ``target``."""
    if target.http is None:
        return await check_tcp(target)
    return await check_http(target, target.http)
