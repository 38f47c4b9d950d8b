"""What a condition of a resource is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class ConditionType(StrEnum):
    """Conditions of a resource; Degraded is abnormal when true, the others when not."""

    ACCEPTED = "Accepted"
    PROGRAMMED = "Programmed"
    READY = "Ready"
    DEGRADED = "Degraded"
    PAUSED = "Paused"


class ConditionStatus(StrEnum):
    """As in Kubernetes."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Condition:
    """``reason`` is one CamelCase word for machines, ``message`` for people."""

    type: ConditionType
    status: ConditionStatus
    reason: str
    message: str

    @property
    def holds(self) -> bool:
        """Whether its status is True."""
        return self.status is ConditionStatus.TRUE


def condition_of(conditions: Iterable[Condition], kind: ConditionType) -> Condition | None:
    """The condition of that type."""
    return next((condition for condition in conditions if condition.type is kind), None)


class WithConditions:
    """What is shown of an object, as far as it is the same for every kind. ``source`` is the file it comes from."""

    __slots__ = ()

    source: str
    conditions: tuple[Condition, ...]

    def condition(self, kind: ConditionType) -> Condition | None:
        """The condition of that type."""
        return condition_of(self.conditions, kind)

    @property
    def ready(self) -> bool:
        """Whether it works."""
        condition = self.condition(ConditionType.READY)
        return condition is not None and condition.holds
