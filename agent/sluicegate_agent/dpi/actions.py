"""What a sniffer's actions make of a label or of a signature that matched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sluicegate_agent.dpi.engine import Detail, Event
from sluicegate_api.dpisniffer import Action, ActionType, Match


class Labels(Protocol):
    """What the engine calls its numbers."""

    def protocol_name(self, number: int) -> str:
        """Of a protocol or application."""
        ...

    def category(self, app: int) -> str:
        """Of an application."""
        ...


class ActionTable:
    """The actions of one sniffer, by what they wait for."""

    def __init__(self, actions: Sequence[Action], labels: Labels) -> None:
        self._labels = labels
        self._by_label: list[tuple[str, Action]] = []
        self._by_signature: dict[int, list[Action]] = {}
        for index, action in enumerate(actions):
            if action.match.signature_ids is None:
                self._by_label.append((action.name or f"actions[{index}]", action))
            for sid in action.match.signature_ids or ():
                self._by_signature.setdefault(sid, []).append(action)

    def of_label(self, event: Event, detail: Detail) -> list[tuple[str, Action]]:
        """Names and actions that match a flow whose label is final."""
        if not self._by_label:
            return []
        found = self._found(event)
        return [(name, action) for name, action in self._by_label if _matches(action.match, found, detail.score)]

    def drop_seconds(self, sid: int, event: Event, detail: Detail) -> int:
        """How long a flow is dropped for a signature that matched; 0: it is not."""
        actions = self._by_signature.get(sid)
        if actions is None:
            return 0
        found = self._found(event)
        wanted = (each for each in actions if _matches(each.match, found, detail.score))
        return max((each.effective_seconds for each in wanted if each.action is ActionType.DROP), default=0)

    def _found(self, event: Event) -> tuple[frozenset[str], str]:
        names = [self._labels.protocol_name(number) for number in (event.master, event.app) if number]
        category = self._labels.category(event.app or event.master) if names else ""
        return frozenset(name.lower() for name in [*names, ".".join(names)]), category.lower()


def _matches(match: Match, found: tuple[frozenset[str], str], score: int) -> bool:
    names, category = found
    return (
        (match.protocols is None or any(name.lower() in names for name in match.protocols))
        and (match.categories is None or any(name.lower() == category for name in match.categories))
        and (match.min_risk is None or score >= match.min_risk)
    )
