"""conditions.md: what the conditions of a resource can say."""

from __future__ import annotations

from typing import NamedTuple

from sluicegate_agent.reference.markdown import code, table
from sluicegate_agent.reference.markdown import page as whole
from sluicegate_agent.reports.condition import ConditionStatus, ConditionType

_INTRODUCTION = """
`sluicegate status -o json` gives each load balancer and each sniffer a list of conditions, as Kubernetes does.
`Degraded` and `Paused` are abnormal when they are true, the others when they are not. `message` says in words what is
meant, and names up to three culprits; `reason` is for programs. In the [metrics](metrics.md):
`sluicegate_lb_condition` and `sluicegate_dpi_condition`.
"""

_TYPES = {
    ConditionType.ACCEPTED: "the resource is valid, and its addresses are its own",
    ConditionType.PROGRAMMED: "the kernel of this node runs it",
    ConditionType.READY: "it works: programmed, and every port has a usable backend in each family of its VIPs; for a "
    "sniffer, an engine looks at what comes up",
    ConditionType.DEGRADED: "it works, but not as well as it should",
    ConditionType.PAUSED: "changes wait; only there when `spec.paused` is set",
}


class Row(NamedTuple):
    """One reason. The message adds names and numbers to its meaning."""

    type: ConditionType
    status: ConditionStatus
    reason: str
    meaning: str


_YES, _NO = ConditionStatus.TRUE, ConditionStatus.FALSE

ROWS = (
    Row(ConditionType.ACCEPTED, _YES, "Valid", "nothing is wrong with the resource"),
    Row(ConditionType.ACCEPTED, _NO, "Invalid", "it has errors; the last valid version, if any, stays in force"),
    Row(ConditionType.ACCEPTED, _NO, "AddressRefused", "another resource, or the node itself, holds one of its VIPs"),
    Row(ConditionType.PROGRAMMED, _YES, "Programmed", "the kernel runs this configuration"),
    Row(ConditionType.PROGRAMMED, _NO, "NotAccepted", "no valid version of it was ever read"),
    Row(ConditionType.PROGRAMMED, _NO, "ProgramsNotLoaded", "its programs are being compiled, or cannot be loaded"),
    Row(ConditionType.PROGRAMMED, _NO, "AddressesMissing", "some of its VIPs are not balanced"),
    Row(ConditionType.PROGRAMMED, _NO, "KernelRefused", "the kernel refused an operation; it is tried again"),
    Row(ConditionType.PROGRAMMED, _NO, "NotAttached", "no interface where its packets arrive carries our programs"),
    Row(ConditionType.PROGRAMMED, _NO, "InterfaceTaken", "another sniffer has all interfaces that this one wants"),
    Row(ConditionType.READY, _YES, "Ready", "every port has a usable backend; or an engine looks at what comes up"),
    Row(ConditionType.READY, _NO, "NotAccepted", "no valid version of it was ever read"),
    Row(ConditionType.READY, _NO, "NotProgrammed", "see `Programmed`"),
    Row(ConditionType.READY, _NO, "NoHealthyBackend", "a port has no usable backend in a family of its VIPs"),
    Row(ConditionType.READY, _NO, "EngineAway", "no process looks at what sniffers send up; traffic passes"),
    Row(ConditionType.DEGRADED, _NO, "Sound", "nothing is wrong"),
    Row(ConditionType.DEGRADED, _YES, "Panic", "too few backends pass their checks, so all are used"),
    Row(
        ConditionType.DEGRADED,
        _YES,
        "Impaired",
        "something is at fault; the message names it",
    ),
    Row(ConditionType.DEGRADED, _YES, "Losing", "a sniffer loses records right now, because the engine is too slow"),
    Row(ConditionType.PAUSED, _YES, "Paused", "`spec.paused` is set: later changes wait"),
)


def page() -> str:
    """The text."""
    types = table(("condition", "true when"), ((code(kind), text) for kind, text in _TYPES.items()))
    rows = ((code(row.type), row.status, code(row.reason), row.meaning) for row in ROWS)
    return whole(
        "Conditions", _INTRODUCTION, types, "## Reasons", table(("condition", "status", "reason", "meaning"), rows)
    )
