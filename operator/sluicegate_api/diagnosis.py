"""Everything that is wrong with a value, not only what comes first.

A model stops at the first layer of errors: rules over several fields run only when every field is right by itself. So
what is wrong is taken out of a copy and the rest is looked at again, until nothing new turns up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sluicegate_api.common import ApiModel, FieldProblem, Location, format_path
from sluicegate_api.documents import Value
from sluicegate_api.wording import reason

M = TypeVar("M", bound=ApiModel)


@dataclass(frozen=True, slots=True)
class Diagnosis(Generic[M]):
    """What is wrong with a value, and the value as a model without what is wrong.

    The model is None when too little was left. It is all of the value only when there are no problems.
    """

    model: M | None
    problems: tuple[FieldProblem, ...]


def diagnose(model: type[M], value: Value) -> Diagnosis[M]:
    """Validate a value as a file holds it: field names in camelCase only, and no empty (null) fields in the spec."""
    search = _Search(model)
    spec = value.get("spec") if isinstance(value, dict) else None
    for location in _nulls(spec, ("spec",)) if spec is not None else ():
        search.take_out(location, "is empty: give a value or leave the field out")
    while True:
        pruned, indices = search.prune(value)
        try:
            valid = model.model_validate(pruned, by_alias=True, by_name=False)
        except ValidationError as error:
            if not search.learn(error, indices):
                return Diagnosis(None, search.problems())
        else:
            return Diagnosis(valid, search.problems())


def _nulls(value: Value, location: Location) -> Iterator[Location]:
    if value is None:
        yield location
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _nulls(item, (*location, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _nulls(item, (*location, index))


@dataclass(slots=True)
class _Search(Generic[M]):
    model: type[M]
    found: dict[Location, list[str]] = field(default_factory=dict)
    removed: set[Location] = field(default_factory=set)

    def take_out(self, location: Location, words: str) -> None:
        """Report a place, and leave it out from now on."""
        self.found.setdefault(location, []).append(words)
        self.removed.add(location)

    def problems(self) -> tuple[FieldProblem, ...]:
        """All that was found, in the order in which it was."""
        return tuple(FieldProblem(format_path(place), words) for place, all_ in self.found.items() for words in all_)

    def prune(self, value: Value) -> tuple[Value, Mapping[Location, tuple[int, ...]]]:
        """The value without the removed places, and for each list the original indices of what is left in it."""
        indices: dict[Location, tuple[int, ...]] = {}

        def copy(part: Value, location: Location) -> Value:
            if isinstance(part, dict):
                places = {key: (*location, key) for key in part}
                return {key: copy(part[key], place) for key, place in places.items() if place not in self.removed}
            if isinstance(part, list):
                kept = tuple(index for index in range(len(part)) if (*location, index) not in self.removed)
                indices[location] = kept
                return [copy(part[index], (*location, index)) for index in kept]
            return part

        return copy(value, ()), indices

    def learn(self, error: ValidationError, indices: Mapping[Location, tuple[int, ...]]) -> bool:
        """Take over what is new in an error; False when there is nothing more to take out."""
        before = frozenset(self.removed)
        for details in error.errors(include_url=False):
            location = _original(details["loc"], indices)
            if details["type"] == "too_short" and details["input"]:
                continue  # pydantic does not count entries that are wrong; those are reported themselves
            if location in before:
                # It is required, and was taken out because it was wrong: what it belongs to goes too.
                self.removed.add(location[:-1])
            elif _follows_from(before, location, details):
                self.removed.add(location)
            else:
                self.take_out(location, reason(details, self.model))
        self.removed.discard(())
        return len(self.removed) > len(before)


def _follows_from(removed: frozenset[Location], location: Location, details: ErrorDetails) -> bool:
    """Whether an error may be there only because something was taken out."""
    if details["type"] == "too_short":
        return any(place[:-1] == location for place in removed)
    if details["type"] != "rule":
        return False
    context = details["ctx"]
    base = location[: len(location) - context["depth"]]
    reads = [(*base, *place) for place in context["reads"]]
    return any(place[: len(read)] == read[: len(place)] for place in removed for read in reads)


def _original(location: Location, indices: Mapping[Location, tuple[int, ...]]) -> Location:
    """The place in the value as it was given, of a place in what was left of it."""
    result: Location = ()
    for part in location[:-1] if location[-1:] == ("[key]",) else location:
        known = indices.get(result)
        result = (*result, known[part] if known is not None and isinstance(part, int) and part < len(known) else part)
    return result
