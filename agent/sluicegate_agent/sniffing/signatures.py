"""The rules of all sniffers, read beside everything else, and again when a text, a file or a variable changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sluicegate_agent.dpi.rules.load import RuleSet, load
from sluicegate_agent.dpi.rules.sources import sources_of
from sluicegate_agent.dpi.rules.vectorscan import NoVectorscanError
from sluicegate_agent.sniffing.state import Signatures
from sluicegate_agent.source.configuration import SnifferEntry
from sluicegate_api.common import ObjectKey
from sluicegate_api.dpisniffer import DpiSniffer

log = logging.getLogger(__name__)

_EXAMPLES = 3

_Version = tuple[object, ...]
"""What rules are made from: texts, variables, and what changes when a file does."""


@dataclass(slots=True)
class _Rules:
    """``wanted`` is the version that shall be in force, ``version`` the one that is."""

    sniffer: DpiSniffer
    folder: Path
    wanted: _Version
    version: _Version | None = None
    rules: RuleSet | None = None
    error: str = ""


class SignatureLoader:
    """Rules by sniffer. Its methods are of one event loop; reading and trying rules happens in a thread.

    While a version is read the one before stays in force.
    """

    def __init__(
        self,
        read: Callable[[DpiSniffer, Path], RuleSet] = lambda sniffer, folder: load(
            sources_of(sniffer, folder), sniffer.spec.variables
        ),
    ) -> None:
        self._read = read
        self._sniffers: dict[ObjectKey, _Rules] = {}
        self._task: asyncio.Task[None] | None = None

    async def configure(self, entries: Sequence[SnifferEntry]) -> None:
        """Sniffers that are to run; call it now and then, so that changes of files of rules are seen."""
        versions = await asyncio.to_thread(_versions, entries)
        known, self._sniffers = self._sniffers, {}
        for entry in entries:
            key = entry.object.key
            version = versions.get(key)
            if version is None:
                continue
            rules = known.get(key)
            if rules is None:
                rules = _Rules(entry.object, _folder(entry), version)
            rules.sniffer, rules.folder, rules.wanted = entry.object, _folder(entry), version
            self._sniffers[key] = rules
        if self._task is None and self._next() is not None:
            self._task = asyncio.create_task(self._load())

    @property
    def idle(self) -> bool:
        """Whether nothing is being read."""
        return self._task is None

    def settled(self, key: ObjectKey) -> bool:
        """Whether some version of its rules was tried: until then the sniffer waits."""
        rules = self._sniffers.get(key)
        return rules is None or rules.version is not None

    def rules(self, key: ObjectKey) -> RuleSet | None:
        """In force; None without any."""
        found = self._sniffers.get(key)
        return found.rules if found is not None else None

    def summary(self, key: ObjectKey) -> Signatures | None:
        """What became of them; None for a sniffer that names none."""
        found = self._sniffers.get(key)
        if found is None:
            return None
        outcomes = found.rules.outcomes if found.rules is not None else ()
        left_out = (each for each in outcomes if not each.state.in_force)
        examples = tuple(f"{each.place}: {each.reason}" for each, _ in zip(left_out, range(_EXAMPLES), strict=False))
        counts = found.rules.counts() if found.rules is not None else {}
        sids = frozenset(each.sid for each in found.rules.signatures) if found.rules is not None else frozenset()
        return Signatures(counts, examples, found.version != found.wanted, found.error, sids)

    async def close(self) -> None:
        """Give up what is being read."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _next(self) -> _Rules | None:
        return next((each for each in self._sniffers.values() if each.version != each.wanted), None)

    async def _load(self) -> None:
        """One after the other: each takes a whole CPU."""
        try:
            while (rules := self._next()) is not None:
                wanted = rules.wanted
                try:
                    rules.rules = await asyncio.to_thread(self._read, rules.sniffer, rules.folder)
                    rules.error = ""
                except NoVectorscanError as error:
                    rules.error = str(error)
                except Exception as error:
                    log.exception("the signatures of sniffer %s cannot be loaded", rules.sniffer.key)
                    rules.error = f"they cannot be loaded, see the agent's log: {error}"
                rules.version = wanted
        finally:
            self._task = None


def _folder(entry: SnifferEntry) -> Path:
    return Path(entry.source).parent


def _versions(entries: Sequence[SnifferEntry]) -> Mapping[ObjectKey, _Version]:
    """Of all sniffers that name signatures."""
    found: dict[ObjectKey, _Version] = {}
    for entry in entries:
        given = entry.object.spec.signatures
        if given.given:
            files = tuple(_state_of(_folder(entry) / name) for name in given.files or ())
            variables = tuple(sorted((entry.object.spec.variables or {}).items()))
            found[entry.object.key] = (given.inline, files, variables)
    return found


def _state_of(path: Path) -> tuple[object, ...]:
    try:
        status = path.stat()
    except OSError as error:
        return str(path), error.errno
    return str(path), status.st_ino, status.st_size, status.st_mtime_ns
