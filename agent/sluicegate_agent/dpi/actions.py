"""What a sniffer's actions make of a label or of a signature that matched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sluicegate_agent.dpi.engine_model import Detail, Event

if TYPE_CHECKING:  # the processes that read rings do without the resource's model: it takes longer to load than they do
    from sluicegate_api.dpisniffer import Action

_DROP = "Drop"


class Labels(Protocol):
    """What the engine calls its numbers."""

    def protocol_name(self, number: int) -> str:
        """Of a protocol or application."""
        ...

    def category(self, app: int) -> str:
        """Of an application."""
        ...


@dataclass(frozen=True, slots=True)
class FlowAction:
    """An action without the resource around it. ``drop_seconds`` is 0 when it only alerts; names are lower case."""

    name: str
    signature_ids: frozenset[int] | None = None
    protocols: frozenset[str] | None = None
    categories: frozenset[str] | None = None
    min_risk: int | None = None
    drop_seconds: int = 0


def flow_actions(actions: Sequence[Action]) -> tuple[FlowAction, ...]:
    """The actions of a sniffer; one without a name is called by its place."""
    return tuple(_flow_action(index, action) for index, action in enumerate(actions))


def _flow_action(index: int, action: Action) -> FlowAction:
    match = action.match
    return FlowAction(
        action.name or f"actions[{index}]",
        None if match.signature_ids is None else frozenset(match.signature_ids),
        _lower(match.protocols),
        _lower(match.categories),
        match.min_risk,
        action.effective_seconds if action.action == _DROP else 0,
    )


class ActionTable:
    """The actions of one sniffer, by what they wait for."""

    def __init__(self, actions: Sequence[Action | FlowAction], labels: Labels) -> None:
        self._labels = labels
        self._by_label: list[FlowAction] = []
        self._by_signature: dict[int, list[FlowAction]] = {}
        for index, given in enumerate(actions):
            action = given if isinstance(given, FlowAction) else _flow_action(index, given)
            if action.signature_ids is None:
                self._by_label.append(action)
            for sid in action.signature_ids or ():
                self._by_signature.setdefault(sid, []).append(action)

    def of_label(self, event: Event, detail: Detail) -> list[FlowAction]:
        """Actions that match a flow whose label is final."""
        if not self._by_label:
            return []
        found = self._found(event)
        return [action for action in self._by_label if _matches(action, found, detail.score)]

    def drop_seconds(self, sid: int, event: Event, detail: Detail) -> int:
        """How long a flow is dropped for a signature that matched; 0: it is not."""
        actions = self._by_signature.get(sid)
        if actions is None:
            return 0
        found = self._found(event)
        return max((each.drop_seconds for each in actions if _matches(each, found, detail.score)), default=0)

    def _found(self, event: Event) -> tuple[frozenset[str], str]:
        names = [self._labels.protocol_name(number) for number in (event.master, event.app) if number]
        category = self._labels.category(event.app or event.master) if names else ""
        return frozenset(name.lower() for name in [*names, ".".join(names)]), category.lower()


def _matches(action: FlowAction, found: tuple[frozenset[str], str], score: int) -> bool:
    names, category = found
    return (
        (action.protocols is None or not names.isdisjoint(action.protocols))
        and (action.categories is None or category in action.categories)
        and (action.min_risk is None or score >= action.min_risk)
    )


def _lower(names: Sequence[str] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(name.lower() for name in names)
