"""Load balancers, backends and VIPs by the names that people give them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sluicegate_agent.control.questions import QuestionError, place, text_of
from sluicegate_agent.planning.ids import BackendKey
from sluicegate_agent.planning.services import expand
from sluicegate_agent.reports.situation import Situation
from sluicegate_api.common import ObjectKey

_LISTED = 8
"""How many choices a message lists: it has to fit on a screen."""


class UnknownTargetError(Exception):
    """There is nothing of that name; the message lists what there is."""


def find_target(situation: Situation, target: str) -> ObjectKey:
    """The key of ``NAME`` or ``NAMESPACE/NAME`` among all load balancers that were read.

    Raises UnknownTargetError, also for a name that is in two namespaces.
    """
    return _find(_keys(situation), target, "lb", "load balancer")


def find_sniffer(situation: Situation, target: str) -> ObjectKey:
    """The same among all sniffers."""
    return _find(_sniffer_keys(situation), target, "dpi", "sniffer")


def _find(keys: Sequence[ObjectKey], target: str, short: str, kind: str) -> ObjectKey:
    namespace, _, name = target.rpartition("/")
    found = [key for key in keys if key.name == name and namespace in {"", key.namespace}]
    if len(found) == 1:
        return found[0]
    if found:
        choices = ", ".join(f"{short}/{key}" for key in found)
        raise UnknownTargetError(f"{name} is in several namespaces; say which: {choices}")
    listed = ", ".join(f"{short}/{key}" for key in keys) or "none"
    raise UnknownTargetError(f"there is no {kind} {target}; the agent knows {listed}")


def find_backends(situation: Situation, target: str) -> tuple[BackendKey, ...]:
    """The backends of ``[NAMESPACE/]NAME/ADDRESS[:PORT]``: of every port of the load balancer that has it.

    Raises UnknownTargetError with the backends that there are.
    """
    name, _, text = target.rpartition("/")
    owner = find_target(situation, _without_kind(situation, name))
    try:
        address, port = place(text, "BACKEND")
    except QuestionError as error:
        raise UnknownTargetError(str(error)) from error
    known = _backends_of(situation, owner)
    found = tuple(key for key in known if key.address == address and port in {None, key.port})
    if found:
        return found
    names = list(dict.fromkeys(text_of(key.address, key.port) for key in known))
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    listed = ", ".join(names[:_LISTED]) + more if names else "none, or no version of it was valid yet"
    raise UnknownTargetError(f"{owner} has no backend {text}; it has {listed}")


def names_document(situation: Situation) -> dict[str, object]:
    """Every name that a command takes, for completion: short where it is unique, and in full."""
    keys = _keys(situation)
    short, sniffers = _short(keys), _short(_sniffer_keys(situation))
    backends = {
        key: dict.fromkeys(text_of(each.address, each.port) for each in _backends_of(situation, key)) for key in keys
    }
    vips = {
        text_of(vip.address, vip.port): None
        for entry in situation.configuration.accepted
        for service in expand(entry.object)
        for vip in service.vips
    }
    return {
        "loadbalancers": [{"name": short[key], "full": str(key)} for key in keys],
        "backends": [
            {"name": f"{short[key]}/{text}", "full": f"{key}/{text}", "endpoint": text}
            for key, texts in backends.items()
            for text in texts
        ],
        "vips": list(vips),
        "sniffers": [{"name": name, "full": str(key)} for key, name in sniffers.items()],
    }


def _short(keys: Sequence[ObjectKey]) -> dict[ObjectKey, str]:
    """Names without their namespace where that is enough."""
    count = Counter(key.name for key in keys)
    return {key: key.name if count[key.name] == 1 else str(key) for key in keys}


def _sniffer_keys(situation: Situation) -> list[ObjectKey]:
    sniffers = situation.configuration.sniffers
    return [*(entry.object.key for entry in sniffers.accepted), *(key for key, _ in sniffers.refused)]


def _keys(situation: Situation) -> list[ObjectKey]:
    configuration = situation.configuration
    return [
        *(entry.object.key for entry in configuration.accepted),
        *(key for key, _ in configuration.refused_objects),
    ]


def _backends_of(situation: Situation, owner: ObjectKey) -> tuple[BackendKey, ...]:
    balancer = situation.configuration.object(owner)
    if balancer is None:
        return ()
    return tuple(backend.key for service in expand(balancer) for backend in service.backends)


def _without_kind(situation: Situation, name: str) -> str:
    """``lb/web`` is ``web``, unless a namespace is called lb."""
    kind, slash, rest = name.partition("/")
    named = any(key.namespace == kind for key in _keys(situation))
    return rest if slash and kind in {"lb", "loadbalancer", "sglb"} and not named else name
