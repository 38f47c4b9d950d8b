"""Which output a sniffer's events go to."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sluicegate_api.export import EveExport, EveType


@dataclass(frozen=True, slots=True)
class Place:
    """An output, as the resource says it. Limits are those of files: bytes of one, and how many full ones stay."""

    type: EveType
    path: str = ""
    max_bytes: int = 0
    max_files: int = 0

    @property
    def key(self) -> tuple[str, str]:
        """What makes it another output."""
        return self.type.value, self.path

    @property
    def text(self) -> str:
        """For people."""
        return self.path or "standard output"

    def shared_with(self, other: Place) -> Place:
        """The same output, with the smaller limits."""
        return replace(
            self,
            max_bytes=min(self.max_bytes, other.max_bytes),
            max_files=min(self.max_files, other.max_files),
        )


def place_of(eve: EveExport) -> Place:
    """From the resource."""
    if eve.type is EveType.FILE:
        return Place(eve.type, eve.path or "", eve.effective_max_bytes, eve.effective_max_files)
    return Place(eve.type, eve.path or "")
