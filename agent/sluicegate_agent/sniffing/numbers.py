"""Which number each sniffer has in the kernel: kept on disk, because flows there outlive the agent."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from sluicegate_api.common import ObjectKey

log = logging.getLogger(__name__)


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid")

    sniffers: dict[str, int]


class NumberStore:
    """One file in the state directory."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "sniffers.json"
        self._saved: Mapping[ObjectKey, int] | None = None

    def load(self) -> dict[ObjectKey, int]:
        """What was saved; nothing when there is none that can be read: then sniffers get new numbers."""
        try:
            stored = _Stored.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError) as error:
            log.warning("%s cannot be used, so sniffers get new numbers: %s", self._path, error)
            return {}
        numbers: dict[ObjectKey, int] = {}
        for name, number in stored.sniffers.items():
            namespace, slash, short = name.partition("/")
            if slash and number not in numbers.values():
                numbers[ObjectKey(namespace, short)] = number
        return numbers

    def save(self, numbers: Mapping[ObjectKey, int]) -> None:
        """Write the file as a whole or not at all; failure is told and not fatal."""
        if numbers == self._saved:
            return
        temporary = self._path.with_suffix(".new")
        stored = _Stored(sniffers={str(key): number for key, number in numbers.items()})
        try:
            temporary.write_text(stored.model_dump_json(), encoding="utf-8")
            temporary.replace(self._path)
            self._saved = dict(numbers)
        except OSError as error:
            log.warning("cannot keep the numbers of sniffers in %s: %s", self._path, error.strerror or error)

    def remove(self) -> None:
        """Forget what was saved."""
        self._path.unlink(missing_ok=True)
