"""From files to what shall run: every object's last good version, and who holds which VIP. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sluicegate_agent.source.files import Files
from sluicegate_agent.source.objects import Kept, Objects, last_good
from sluicegate_api.claims import Claim, Claims, claims_of, resolve_claims
from sluicegate_api.common import ObjectKey
from sluicegate_api.dpisniffer import DpiSniffer
from sluicegate_api.loadbalancer import LoadBalancer
from sluicegate_api.validation import (
    KIND,
    SNIFFER_KIND,
    Problem,
    ValidationResult,
    validate_documents,
)

Entry = Kept[LoadBalancer]
SnifferEntry = Kept[DpiSniffer]


@dataclass(frozen=True, slots=True)
class Configuration:
    """What shall run: load balancers, and ``sniffers``.

    ``object_problems`` are why the text of a named load balancer cannot be used; those of which no version was ever
    valid are the ``refused_objects``, with their file. ``problem_lines`` are all problems, one line each.
    """

    accepted: tuple[Entry, ...] = ()
    claims: Claims = field(default_factory=Claims)
    paused: frozenset[ObjectKey] = frozenset()
    object_problems: Mapping[ObjectKey, tuple[str, ...]] = field(default_factory=dict)
    refused_objects: tuple[tuple[ObjectKey, str], ...] = ()
    problem_lines: tuple[str, ...] = ()
    sniffers: Objects[DpiSniffer] = field(default_factory=Objects)

    def object(self, key: ObjectKey) -> LoadBalancer | None:
        """The accepted version of an object."""
        return next((entry.object for entry in self.accepted if entry.object.key == key), None)

    def running_sniffers(self) -> tuple[SnifferEntry, ...]:
        """Sniffers that are to run."""
        return tuple(entry for entry in self.sniffers.accepted if entry.active)

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
    balancers = last_good(KIND, result.loadbalancers, previous.accepted, own_problems, files)
    sniffers = last_good(SNIFFER_KIND, result.sniffers, previous.sniffers.accepted, own_problems, files)
    claims = resolve_claims([entry.object for entry in balancers.accepted], previous.claims.holders)
    sources = {entry.object.key: entry.source for entry in balancers.accepted}
    problems = [
        *own_problems,
        *(
            Problem(sources[each.object], f"{KIND} {each.object}", each.problem.path, each.problem.reason)
            for each in claims.refusals
        ),
    ]
    return Configuration(
        accepted=balancers.accepted,
        claims=claims,
        paused=balancers.paused,
        object_problems=balancers.problems,
        refused_objects=balancers.refused,
        problem_lines=(*map(str, problems), *_file_problems(files)),
        sniffers=sniffers,
    )


def _without_refusals(result: ValidationResult) -> list[Problem]:
    """Problems of the texts themselves: who holds what is decided again over all objects that stay."""
    refusals = {(f"{KIND} {each.object}", each.problem.path, each.problem.reason) for each in result.claims.refusals}
    return [each for each in result.problems if (each.object, each.path, each.reason) not in refusals]


def _file_problems(files: Files) -> Iterator[str]:
    for name, reason in files.unreadable.items():
        yield f"{name}: {reason}; what was read from it before stays in force"
    for name in files.missing:
        yield f"{name}: leads to no file"
