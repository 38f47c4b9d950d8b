"""Whether an object's text is valid: the check with which both chains begin. Pure."""

from __future__ import annotations

from sluicegate_agent.reports.checks import Check, CheckId
from sluicegate_agent.reports.condition import ConditionType, WithConditions
from sluicegate_agent.reports.situation import Situation
from sluicegate_api.validation import KIND, SNIFFER_KIND


def accepted(situation: Situation, view: WithConditions, *, paused: bool) -> Check:
    """Of the object as it is, and of its file as it is now."""
    source, condition = view.source, view.condition(ConditionType.ACCEPTED)
    following = f"mend {source}: sluicegate validate -f {source}"
    if condition is None or not condition.holds:
        message = condition.message if condition is not None else "nothing is known of it"
        return Check(CheckId.ACCEPTED, ok=False, message=message, next=following)
    if trouble := _trouble(situation, source):
        message = f"{source} cannot be read as it is now, so the version before stays in force: {trouble}"
        return Check(CheckId.ACCEPTED, ok=False, message=message, next=following)
    waiting = "; spec.paused is true: later changes wait" if paused else ""
    return Check(CheckId.ACCEPTED, ok=True, message=f"{source} is valid{waiting}")


def _trouble(situation: Situation, source: str) -> str:
    """What is wrong with the whole file; what is wrong with one object in it is that object's own."""
    prefix = f"{source}: "
    of_objects = (f"{KIND} ", f"{SNIFFER_KIND} ")
    lines = (line.removeprefix(prefix) for line in situation.configuration.problem_lines if line.startswith(prefix))
    return next((line for line in lines if not line.startswith(of_objects)), "")
