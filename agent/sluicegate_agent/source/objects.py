"""Objects of one kind over changes of files: the last good version of each, and what is wrong with the others. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Generic, TypeVar

from sluicegate_agent.source.files import Files
from sluicegate_api.common import ObjectKey
from sluicegate_api.validation import KINDS, LoadedResource, Problem, Resource

R_co = TypeVar("R_co", bound=Resource, covariant=True)


@dataclass(frozen=True, slots=True)
class Kept(Generic[R_co]):
    """An object as it was when last valid. ``active`` is False for one that was paused before it ever ran."""

    object: R_co
    source: str
    document: int
    active: bool = True


@dataclass(frozen=True, slots=True)
class Objects(Generic[R_co]):
    """All objects of one kind.

    ``problems`` are why the text of a named object cannot be used; objects of which no version was ever valid are
    ``refused``, with their file.
    """

    accepted: tuple[Kept[R_co], ...] = ()
    paused: frozenset[ObjectKey] = frozenset()
    problems: Mapping[ObjectKey, tuple[str, ...]] = field(default_factory=dict)
    refused: tuple[tuple[ObjectKey, str], ...] = ()

    def object(self, key: ObjectKey) -> R_co | None:
        """The accepted version of an object."""
        return next((entry.object for entry in self.accepted if entry.object.key == key), None)


def last_good(
    kind: str,
    loaded: Sequence[LoadedResource[R_co]],
    previous: Sequence[Kept[R_co]],
    problems: Sequence[Problem],
    files: Files,
) -> Objects[R_co]:
    """The objects of ``kind`` after a change of files; ``problems`` are those of the texts, of any kind.

    An object whose new text is wrong, or whose file cannot be read, stays as it was; one whose file or text is gone
    goes.
    """
    before = {entry.object.key: entry for entry in previous}
    fresh = {each.object.key: _enter(each, before.get(each.object.key)) for each in loaded}
    doubtful = _doubtful(kind, problems, before.keys(), fresh.keys())
    entries = list(fresh.values())
    for key, entry in before.items():
        if key not in fresh and (entry.source in files.unreadable or key in doubtful.get(entry.source, ())):
            entries.append(entry)
    entries.sort(key=_file_order(files))
    by_object = _by_object(kind, problems)
    known = {entry.object.key for entry in entries}
    return Objects(
        accepted=tuple(entries),
        paused=frozenset(each.object.key for each in loaded if each.object.spec.paused),
        problems=MappingProxyType({key: tuple(texts) for key, (_, texts) in by_object.items()}),
        refused=tuple((key, source) for key, (source, _) in by_object.items() if key not in known),
    )


def _enter(loaded: LoadedResource[R_co], before: Kept[R_co] | None) -> Kept[R_co]:
    """A paused object keeps the version that ran before it was paused."""
    if not loaded.object.spec.paused:
        return Kept(loaded.object, loaded.source, loaded.document)
    if before is None:
        return Kept(loaded.object, loaded.source, loaded.document, active=False)
    kept = before.object if before.active else loaded.object
    return Kept(kept, loaded.source, loaded.document, active=before.active)


def _doubtful(
    own_kind: str, problems: Sequence[Problem], before: Collection[ObjectKey], fresh: Collection[ObjectKey]
) -> dict[str, Collection[ObjectKey]]:
    """By file: objects that are not among the valid ones, but may be there behind an error."""
    known = {str(key): key for key in before}
    doubtful: dict[str, set[ObjectKey]] = {}
    for problem in problems:
        kind, _, name = problem.object.partition(" ")
        if kind in KINDS and kind != own_kind:
            continue
        suspects = doubtful.setdefault(problem.source, set())
        if name in known:
            suspects.add(known[name])
        elif kind in {own_kind, "document"} and name not in {str(key) for key in fresh}:
            # Its name cannot be read, or was edited: it may be any of those that are missing.
            suspects.update(before)
    return {source: frozenset(keys) for source, keys in doubtful.items()}


def _file_order(files: Files) -> Callable[[Kept[Resource]], tuple[int, int]]:
    order = {name: index for index, name in enumerate((*files.texts, *files.unreadable))}
    return lambda entry: (order.get(entry.source, len(order)), entry.document)


def _by_object(own_kind: str, problems: Sequence[Problem]) -> dict[ObjectKey, tuple[str, list[str]]]:
    """Problems of objects of the kind by name, with the file that the first is in."""
    found: dict[ObjectKey, tuple[str, list[str]]] = {}
    for problem in problems:
        kind, _, name = problem.object.partition(" ")
        namespace, slash, short_name = name.partition("/")
        if kind == own_kind and slash:
            _, texts = found.setdefault(ObjectKey(namespace, short_name), (problem.source, []))
            texts.append(": ".join(part for part in (problem.path, problem.reason) if part))
    return found
