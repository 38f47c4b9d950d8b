"""What operators said of backends on this node with ``drain`` and ``ready``: kept on disk until it expires.

The agent owns one store. Its methods :meth:`Agent.drain` and :meth:`Agent.ready` change it and wake the loop; each step
takes :meth:`OverrideStore.current` and is to wake again at :meth:`OverrideStore.next_expiry`. All times are wall-clock
seconds since the epoch, so that an override outlives a restart of the agent and no longer than it was meant to.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, ValidationError

from sluicegate_agent.planning.ids import BackendKey, ServiceKey
from sluicegate_agent.weights.model import Override
from sluicegate_api.common import ObjectKey

log = logging.getLogger(__name__)

FORMAT = 1


class _StoredOverride(BaseModel):
    namespace: str
    name: str
    service_port: str
    family: int
    address: IPv4Address | IPv6Address
    port: int
    until: float
    by: str


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: int
    drained: list[_StoredOverride]


class OverrideStore:
    """Overrides by backend, and one file in the state directory. Not for several threads at once."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "overrides.json"
        self._overrides: dict[BackendKey, Override] = self._load()

    def drain(self, backends: Collection[BackendKey], until: float, by: str = "") -> None:
        """These backends get no new flows until then, whatever was said before. ``by`` names who said so."""
        self._overrides.update(dict.fromkeys(backends, Override(until, by)))
        self._save()

    def ready(self, backends: Collection[BackendKey]) -> frozenset[BackendKey]:
        """Take back what was said of these backends; those of which anything was said."""
        found = self._overrides.keys() & set(backends)
        self._overrides = {key: override for key, override in self._overrides.items() if key not in found}
        self._save()
        return frozenset(found)

    def current(self, now: float) -> Mapping[BackendKey, Override]:
        """What holds at that time; what expired is forgotten."""
        living = {key: override for key, override in self._overrides.items() if override.until > now}
        if len(living) != len(self._overrides):
            self._overrides = living
            self._save()
        return MappingProxyType(living)

    def next_expiry(self) -> float | None:
        """When the first of them expires; None when there is none."""
        return min((override.until for override in self._overrides.values()), default=None)

    def remove(self) -> None:
        """Forget all of them, also on disk."""
        self._overrides = {}
        self._path.unlink(missing_ok=True)

    def _load(self) -> dict[BackendKey, Override]:
        try:
            stored = _Stored.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError) as error:
            log.warning("%s cannot be used, so no backend is drained by an operator: %s", self._path, error)
            return {}
        if stored.format != FORMAT:
            return {}
        return {
            BackendKey(
                ServiceKey(ObjectKey(each.namespace, each.name), each.service_port, each.family),
                each.address,
                each.port,
            ): Override(each.until, each.by)
            for each in stored.drained
            if math.isfinite(each.until)
        }

    def _save(self) -> None:
        """Write the file as a whole or not at all; failure is told and not fatal."""
        stored = _Stored(
            format=FORMAT,
            drained=[
                _StoredOverride(
                    namespace=key.service.object.namespace,
                    name=key.service.object.name,
                    service_port=key.service.port,
                    family=key.service.family,
                    address=key.address,
                    port=key.port,
                    until=override.until,
                    by=override.by,
                )
                for key, override in self._overrides.items()
            ],
        )
        temporary = self._path.with_suffix(".new")
        try:
            temporary.write_text(stored.model_dump_json(), encoding="utf-8")
            temporary.replace(self._path)
        except OSError as error:
            log.warning("cannot keep the overrides in %s: %s", self._path, error.strerror or error)
