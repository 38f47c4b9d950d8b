"""Since when each backend could take new flows: what slow start counts from."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sluicegate_agent.datapath.model import Backend, BackendState
from sluicegate_agent.planning.desired import BackendOutcome
from sluicegate_agent.planning.ids import BackendKey


class Uptime:
    """Follows outcome after outcome. A backend is usable as far as checks, routes and operators go.

    One that the kernel already sent flows to when this agent first saw it was in use before: it has no beginning, so a
    restart of the agent starts nothing slowly.
    """

    def __init__(self) -> None:
        self._since: dict[BackendKey, float | None] = {}
        self._found: dict[BackendKey, Backend | None] = {}

    def follow(
        self, outcomes: Mapping[BackendKey, BackendOutcome], overridden: Collection[BackendKey], now: float
    ) -> set[BackendKey]:
        """Take in what a step came to at ``now``; backends that became usable or ceased to be, or are gone."""
        moved = self._found.keys() - outcomes.keys()
        for key in moved:
            del self._found[key]
            self._since.pop(key, None)
        for key, outcome in outcomes.items():
            first = key not in self._found
            if first:
                self._found[key] = outcome.found
            usable = outcome.usable and key not in overridden
            if usable and key not in self._since:
                in_use = first and outcome.found is not None and outcome.found.state is BackendState.ACTIVE
                self._since[key] = None if in_use else now
                moved.add(key)
            elif not usable and self._since.pop(key, _NEVER) != _NEVER:
                moved.add(key)
        return moved

    def knows(self, key: BackendKey) -> bool:
        """Whether a step has come to anything about it yet."""
        return key in self._found

    def usable(self, key: BackendKey) -> bool:
        """Whether it would take new flows now, if no signal spoke against it."""
        return key in self._since

    def since(self, key: BackendKey) -> float | None:
        """Since when; None for one that was in use before, or is not usable."""
        return self._since.get(key)

    def found(self, key: BackendKey) -> Backend | None:
        """Its row in the kernel when this agent first saw it; None when there was none."""
        return self._found.get(key)


_NEVER = -1.0
