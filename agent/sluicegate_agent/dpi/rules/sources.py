"""Where a sniffer's rules come from."""

from __future__ import annotations

from pathlib import Path

from sluicegate_agent.dpi.rules.load import RuleSource
from sluicegate_api.dpisniffer import DpiSniffer

MAX_FILE_BYTES = 64 << 20


def sources_of(sniffer: DpiSniffer, folder: Path) -> tuple[RuleSource, ...]:
    """The texts that spec.signatures names; relative paths begin at ``folder``, that of the configuration file.

    What cannot be read becomes a source with its error. ConfigMaps exist in a cluster only.
    """
    given = sniffer.spec.signatures
    found = []
    if given.inline is not None:
        found.append(RuleSource(f"{sniffer.key} inline", given.inline))
    found.extend(_file(path, folder) for path in given.files or ())
    found.extend(
        RuleSource(f"{reference.name}/{reference.key}", error="ConfigMaps can be read in a cluster only; use files")
        for reference in given.config_map_refs or ()
    )
    return tuple(found)


def _file(name: str, folder: Path) -> RuleSource:
    path = folder / name
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        return RuleSource(str(path), error=f"cannot be read: {error.strerror}")
    if len(data) > MAX_FILE_BYTES:
        return RuleSource(str(path), error=f"is larger than {MAX_FILE_BYTES >> 20} MiB")
    return RuleSource(str(path), data.decode("utf-8", "surrogateescape"))
