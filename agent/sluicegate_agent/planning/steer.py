"""What weights, signals and operators ask of one backend; the builder's only word on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sluicegate_agent.weights.slow_start import LEAST

THOUSANDTHS: Final = 1000
"""``struct backend.weight`` is in thousandths of the unit of configured weights."""


@dataclass(frozen=True, slots=True)
class Steer:
    """How a backend is to be steered away from its configured weight.

    ``weight`` is in thousandths of the unit of configured weights; None keeps the configured one, and 0 means held.
    ``held``: it takes no new flows and keeps those it has; its service does not panic for it. ``down``: it is treated
    as if its checks failed. Both together: it gives up its flows, and its service does not panic for it.
    ``because`` says in a few words who wants that.
    """

    weight: int | None = None
    held: bool = False
    down: bool = False
    because: str = ""

    @property
    def out(self) -> bool:
        """Whether it is to take no new flows."""
        return self.held or self.weight == 0


AS_CONFIGURED: Final = Steer()
"""Nobody has anything to say."""


def slow_start_of(configured: int) -> int:
    """The weight, in thousandths, with which a backend of this configured weight begins its slow start."""
    return max(1, round(configured * THOUSANDTHS * LEAST)) if configured else 0
