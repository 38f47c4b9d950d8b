"""From files to what shall run: every object's last good version, and who holds which VIP. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from sluicegate_agent.source.files import Files
from sluicegate_api.claims import Claim, Claims, claims_of, resolve_claims
from sluicegate_api.common import ObjectKey
from sluicegate_api.loadbalancer import LoadBalancer
from sluicegate_api.support import LIVE_SNIFFING
from sluicegate_api.validation import (
    KIND,
    SNIFFER_KIND,
    LoadedObject,
    Problem,
    ValidationResult,
    validate_documents,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """An object as it was when last valid. ``active`` is False for one that was paused before it ever ran."""

    object: LoadBalancer
    source: str
    document: int
    active: bool = True


@dataclass(frozen=True, slots=True)
class Configuration:
    """What shall run.

    ``object_problems`` are why the text of a named object cannot be used; objects of which no version was ever valid
    are the ``refused_objects``, with their file. ``problem_lines`` are all problems, one line each.
    """

    accepted: tuple[Entry, ...] = ()
    claims: Claims = field(default_factory=Claims)
    paused: frozenset[ObjectKey] = frozenset()
    object_problems: Mapping[ObjectKey, tuple[str, ...]] = field(default_factory=dict)
    refused_objects: tuple[tuple[ObjectKey, str], ...] = ()
    problem_lines: tuple[str, ...] = ()

    def object(self, key: ObjectKey) -> LoadBalancer | None:
        """The accepted version of an object."""
        return next((entry.object for entry in self.accepted if entry.object.key == key), None)

    def lost_claims(self) -> dict[tuple[ObjectKey, Claim], str]:
        """VIP ports that others hold, each with the words that say so."""
        return {(refusal.object, refusal.claim): refusal.problem.reason for refusal in self.claims.refusals}

    def effective(self) -> tuple[LoadBalancer, ...]:
        """Objects without the VIP ports that others hold: no two of these claim the same.

        An object whose ports have kept different addresses comes in several parts of the same name, each with ports of
        its own.
        """
        return tuple(part for entry in self.accepted if entry.active for part in self._parts(entry.object))

    def _parts(self, balancer: LoadBalancer) -> Iterator[LoadBalancer]:
        held = self.claims.held_by(balancer.key)
        if all(claim in held for claim, _ in claims_of(balancer)):
            yield balancer
            return
        spec = balancer.spec
        ports_by_addresses: dict[tuple[int, ...], list[int]] = {}
        for number, port in enumerate(spec.ports):
            kept = tuple(
                index
                for index, address in enumerate(spec.addresses)
                if Claim(address, port.protocol, port.port) in held
            )
            ports_by_addresses.setdefault(kept, []).append(number)
        for addresses, ports in ports_by_addresses.items():
            if addresses:
                part = spec.model_copy(
                    update={
                        "addresses": tuple(spec.addresses[index] for index in addresses),
                        "ports": tuple(spec.ports[number] for number in ports),
                    }
                )
                yield balancer.model_copy(update={"spec": part})


def configure(files: Files, previous: Configuration) -> Configuration:
    """The configuration after a change of files.

    An object whose new text is wrong, or whose file cannot be read, stays as it was; one whose file or text is gone
    goes. What an object holds of VIP ports it keeps, else the order of the files decides.
    """
    result = validate_documents(list(files.texts.items()))
    own_problems = _without_refusals(result)
    before = {entry.object.key: entry for entry in previous.accepted}
    fresh = {loaded.object.key: _enter(loaded, before.get(loaded.object.key)) for loaded in result.loadbalancers}
    doubtful = _doubtful(own_problems, before.keys(), fresh.keys())
    entries = list(fresh.values())
    for key, entry in before.items():
        if key not in fresh and (entry.source in files.unreadable or key in doubtful.get(entry.source, ())):
            entries.append(entry)
    entries.sort(key=_file_order(files))
    claims = resolve_claims([entry.object for entry in entries], previous.claims.holders)
    sources = {entry.object.key: entry.source for entry in entries}
    problems = [
        *own_problems,
        *not_run(result),
        *(
            Problem(sources[each.object], f"{KIND} {each.object}", each.problem.path, each.problem.reason)
            for each in claims.refusals
        ),
    ]
    by_object = _by_object(own_problems)
    return Configuration(
        accepted=tuple(entries),
        claims=claims,
        paused=frozenset(loaded.object.key for loaded in result.loadbalancers if loaded.object.spec.paused),
        object_problems=MappingProxyType({key: tuple(texts) for key, (_, texts) in by_object.items()}),
        refused_objects=tuple((key, source) for key, (source, _) in by_object.items() if key not in sources),
        problem_lines=(*map(str, problems), *_file_problems(files)),
    )


def not_run(result: ValidationResult) -> Iterator[Problem]:
    """Valid objects that an agent cannot run yet."""
    for each in result.sniffers:
        yield Problem(each.source, f"{SNIFFER_KIND} {each.object.key}", "kind", LIVE_SNIFFING)


def _enter(loaded: LoadedObject, before: Entry | None) -> Entry:
    """A paused object keeps the version that ran before it was paused."""
    if not loaded.object.spec.paused:
        return Entry(loaded.object, loaded.source, loaded.document)
    if before is None:
        return Entry(loaded.object, loaded.source, loaded.document, active=False)
    kept = before.object if before.active else loaded.object
    return Entry(kept, loaded.source, loaded.document, active=before.active)


def _without_refusals(result: ValidationResult) -> list[Problem]:
    """Problems of the texts themselves: who holds what is decided again over all objects that stay."""
    refusals = {(f"{KIND} {each.object}", each.problem.path, each.problem.reason) for each in result.claims.refusals}
    return [each for each in result.problems if (each.object, each.path, each.reason) not in refusals]


def _doubtful(
    problems: Sequence[Problem], before: Collection[ObjectKey], fresh: Collection[ObjectKey]
) -> dict[str, Collection[ObjectKey]]:
    """By file: objects that are not among the valid ones, but may be there behind an error."""
    known = {str(key): key for key in before}
    doubtful: dict[str, set[ObjectKey]] = {}
    for problem in problems:
        kind, _, name = problem.object.partition(" ")
        if kind == SNIFFER_KIND:
            continue
        suspects = doubtful.setdefault(problem.source, set())
        if name in known:
            suspects.add(known[name])
        elif kind in {KIND, "document"} and name not in {str(key) for key in fresh}:
            # Its name cannot be read, or was edited: it may be any of those that are missing.
            suspects.update(before)
    return {source: frozenset(keys) for source, keys in doubtful.items()}


def _file_order(files: Files) -> Callable[[Entry], tuple[int, int]]:
    order = {name: index for index, name in enumerate((*files.texts, *files.unreadable))}
    return lambda entry: (order.get(entry.source, len(order)), entry.document)


def _by_object(problems: Sequence[Problem]) -> dict[ObjectKey, tuple[str, list[str]]]:
    """Problems of objects of our kind by name, with the file that the first is in."""
    found: dict[ObjectKey, tuple[str, list[str]]] = {}
    for problem in problems:
        kind, _, name = problem.object.partition(" ")
        namespace, slash, short_name = name.partition("/")
        if kind == KIND and slash:
            _, texts = found.setdefault(ObjectKey(namespace, short_name), (problem.source, []))
            texts.append(": ".join(part for part in (problem.path, problem.reason) if part))
    return found


def _file_problems(files: Files) -> Iterator[str]:
    for name, reason in files.unreadable.items():
        yield f"{name}: {reason}; what was read from it before stays in force"
    for name in files.missing:
        yield f"{name}: leads to no file"
