"""Where a sniffer writes what it found."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from sluicegate_api.cel import cel, validations
from sluicegate_api.common import ApiModel, Violation
from sluicegate_api.paths import LONGEST_SOCKET_PATH, AbsolutePath

DEFAULT_PCAP_DIRECTORY = "/var/log/sluicegate"

Size = Annotated[int, Field(strict=True, ge=65_536, le=1_099_511_627_776)]


class EveType(StrEnum):
    """Where events go."""

    STDOUT = "Stdout"
    FILE = "File"
    UNIX_SOCKET = "UnixSocket"


class EveExport(ApiModel):
    """Events as EVE JSON, one object a line."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "has(self.path) == (has(self.type) && self.type in ['File', 'UnixSocket'])",
                "path is required with types File and UnixSocket, and has no meaning with Stdout",
            ),
            cel(
                "!(has(self.maxBytes) || has(self.maxFiles)) || (has(self.type) && self.type == 'File')",
                "maxBytes and maxFiles need type File",
            ),
            cel(
                f"!has(self.path) || !has(self.type) || self.type != 'UnixSocket' || size(self.path) <= "
                f"{LONGEST_SOCKET_PATH}",
                f"the path of a unix socket has at most {LONGEST_SOCKET_PATH} characters",
            ),
            cel("!has(self.path) || !self.path.endsWith('/')", "path must be that of a file, not of a folder"),
        )
    )

    type: EveType = EveType.STDOUT
    """Stdout (default): the agent's standard output. File: appended to a file. UnixSocket: to whoever listens there."""
    path: AbsolutePath | None = None
    """With File and UnixSocket: where."""
    max_bytes: Size | None = None
    """With File: size at which the file is renamed and a new one begun; default 104857600."""
    max_files: Annotated[int, Field(strict=True, ge=1, le=1000)] | None = None
    """With File: how many renamed files are kept; default 5."""

    @property
    def effective_max_bytes(self) -> int:
        """Size of a file at which the next one begins."""
        return 104_857_600 if self.max_bytes is None else self.max_bytes

    @property
    def effective_max_files(self) -> int:
        """Full files that are kept beside the one that is written."""
        return 5 if self.max_files is None else self.max_files

    def violations(self) -> Iterator[Violation]:
        """Fields fit the type."""
        if self.type is EveType.STDOUT and self.path is not None:
            yield Violation(("path",), "needs type File or UnixSocket, but the type is Stdout", reads=(("type",),))
        if self.type is not EveType.STDOUT and self.path is None:
            yield Violation(("path",), f"is required with type {self.type}", reads=(("type",),))
        if self.path is not None and self.path.endswith("/"):
            yield Violation(("path",), f'"{self.path}" is a folder: add the name of a file')
        if self.type is EveType.UNIX_SOCKET and self.path is not None:
            length = len(self.path.encode())
            if length > LONGEST_SOCKET_PATH:
                yield Violation(
                    ("path",),
                    f"is {length} bytes long; a unix socket's has at most {LONGEST_SOCKET_PATH}",
                    reads=(("type",),),
                )
        if self.type is not EveType.FILE:
            for name, value in (("maxBytes", self.max_bytes), ("maxFiles", self.max_files)):
                if value is not None:
                    yield Violation((name,), f"needs type File, but the type is {self.type}", reads=(("type",),))


class PcapExport(ApiModel):
    """Packets that action Capture keeps."""

    directory: AbsolutePath = DEFAULT_PCAP_DIRECTORY
    """Folder for the files (default /var/log/sluicegate)."""
    max_bytes: Size = 52_428_800
    """Bytes of all files of this sniffer together (default 52428800); the oldest go first."""


class Export(ApiModel):
    """Where findings go."""

    eve: EveExport | None = None
    """Events; default none are written."""
    pcap: PcapExport = PcapExport()
    """Captured packets."""
