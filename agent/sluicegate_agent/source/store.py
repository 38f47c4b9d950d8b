"""The last good configuration on disk, so that a restart beside a broken file takes nothing away."""

from __future__ import annotations

import logging
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from sluicegate_agent.source.configuration import Configuration
from sluicegate_agent.source.objects import Kept, Objects
from sluicegate_api.claims import Claim, Claims
from sluicegate_api.common import ObjectKey
from sluicegate_api.dpisniffer import DpiSniffer
from sluicegate_api.loadbalancer import LoadBalancer
from sluicegate_api.ports import Protocol

log = logging.getLogger(__name__)

FORMAT = 1


class _StoredEntry(BaseModel):
    source: str
    document: int
    active: bool
    object: LoadBalancer


class _StoredSniffer(BaseModel):
    source: str
    document: int
    active: bool
    object: DpiSniffer


class _StoredHolder(BaseModel):
    address: IPv4Address | IPv6Address
    protocol: Protocol
    port: int
    namespace: str
    name: str


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: int
    entries: list[_StoredEntry]
    holders: list[_StoredHolder]
    sniffers: list[_StoredSniffer] = []


class ConfigurationStore:
    """One file in the state directory."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "configuration.json"

    def load(self) -> Configuration:
        """What was saved; an empty configuration when there is nothing, or nothing that this version reads."""
        try:
            stored = _Stored.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return Configuration()
        except (OSError, ValidationError) as error:
            log.warning("%s cannot be used, so only what the files hold now counts: %s", self._path, error)
            return Configuration()
        if stored.format != FORMAT:
            return Configuration()
        return Configuration(
            accepted=tuple(Kept(each.object, each.source, each.document, each.active) for each in stored.entries),
            claims=Claims(
                {
                    Claim(each.address, each.protocol, each.port): ObjectKey(each.namespace, each.name)
                    for each in stored.holders
                }
            ),
            sniffers=Objects(
                tuple(Kept(each.object, each.source, each.document, each.active) for each in stored.sniffers)
            ),
        )

    def remove(self) -> None:
        """Forget what was saved."""
        self._path.unlink(missing_ok=True)

    def save(self, configuration: Configuration) -> None:
        """Write the file as a whole or not at all; failure is told and not fatal."""
        stored = _Stored(
            format=FORMAT,
            entries=[
                _StoredEntry(source=each.source, document=each.document, active=each.active, object=each.object)
                for each in configuration.accepted
            ],
            holders=[
                _StoredHolder(
                    address=claim.address,
                    protocol=claim.protocol,
                    port=claim.port,
                    namespace=key.namespace,
                    name=key.name,
                )
                for claim, key in configuration.claims.holders.items()
            ],
            sniffers=[
                _StoredSniffer(source=each.source, document=each.document, active=each.active, object=each.object)
                for each in configuration.sniffers.accepted
            ],
        )
        temporary = self._path.with_suffix(".new")
        try:
            temporary.write_text(stored.model_dump_json(by_alias=True, exclude_unset=True), encoding="utf-8")
            temporary.replace(self._path)
        except OSError as error:
            log.warning("cannot keep the configuration in %s: %s", self._path, error.strerror or error)
