"""Configuration files on disk: which there are, what they hold, and when that changes."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

POLL_SECONDS = 0.5
SETTLE_SECONDS = 0.1
MAX_FILE_BYTES = 16 * 1024 * 1024
SUFFIXES = frozenset({".yaml", ".yml", ".json"})


@dataclass(frozen=True, slots=True)
class Files:
    """What was read, by path in the order given (a folder's files by name).

    ``unreadable`` and ``missing`` tell files that are there but cannot be read (with the reason) from paths that were
    named but lead nowhere.
    """

    texts: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Look:
    """One look at the disk: a signature per file, the reason where there is none, and what leads nowhere."""

    signatures: dict[str, tuple[int, ...] | str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


class FileWatcher:
    """Follows files, folders (their ``*.yaml``, ``*.yml``, ``*.json``, not deeper) and globs by polling.

    A change counts once two looks in a row see the same: an editor that truncates a file before it writes it never
    makes its objects vanish.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = tuple(patterns)
        self._folders: dict[str, tuple[str, ...]] = {}
        self._accepted: _Look | None = None
        self._previous: _Look | None = None

    @property
    def unsettled(self) -> bool:
        """True while the last look saw a change that must be seen once more."""
        return self._previous != self._accepted

    def poll(self) -> Files | None:
        """One look. Returns all files when something changed and has settled; the first call always returns them."""
        look = self._look()
        first, settled = self._accepted is None, look == self._previous
        self._previous = look
        if look == self._accepted or not (first or settled):
            return None
        self._accepted = look
        return _read(look)

    async def changes(self) -> AsyncIterator[Files]:
        """The files after each change, for ever. Reading happens in a thread: a dead network disk stops nothing."""
        while True:
            await asyncio.sleep(SETTLE_SECONDS if self.unsettled else POLL_SECONDS)
            files = await asyncio.to_thread(self.poll)
            if files is not None:
                yield files

    def _look(self) -> _Look:
        signatures: dict[str, tuple[int, ...] | str] = {}
        missing: list[str] = []
        for pattern in self._patterns:
            names = self._expand(pattern)
            if not names:
                missing.append(pattern)
            for name in names:
                signature = _signature(name)
                if signature is None:
                    missing.append(name)
                else:
                    signatures[name] = signature
        return _Look(signatures, tuple(missing))

    def _expand(self, pattern: str) -> tuple[str, ...]:
        path = Path(pattern)
        if path.is_dir():
            try:
                with os.scandir(path) as entries:
                    names = sorted(entry.path for entry in entries if _wanted(entry))
            except OSError:
                # A folder that fails for a moment keeps the files it had; each of them then says why it is unreadable.
                return self._folders.get(pattern, (pattern,))
            self._folders[pattern] = tuple(names)
            return self._folders[pattern]
        if any(character in pattern for character in "*?["):
            return tuple(sorted(str(found) for found in _glob(pattern)))
        return (pattern,)


def _wanted(entry: os.DirEntry[str]) -> bool:
    return Path(entry.name).suffix in SUFFIXES and not entry.name.startswith(".") and not Path(entry).is_dir()


def _glob(pattern: str) -> list[Path]:
    path = Path(pattern)
    root = Path(path.anchor) if path.anchor else Path()
    return [found for found in root.glob(str(path.relative_to(root))) if not found.is_dir()]


def _signature(name: str) -> tuple[int, ...] | str | None:
    """What changes when the file does; a reason when it cannot be told; None when there is no such file."""
    try:
        status = Path(name).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return error.strerror or str(error)
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file, so later changes could not be seen"
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _read(look: _Look) -> Files:
    texts: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    missing = list(look.missing)
    for name, signature in look.signatures.items():
        if isinstance(signature, str):
            unreadable[name] = signature
            continue
        try:
            with Path(name).open("rb") as file:
                raw = file.read(MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            missing.append(name)
            continue
        except OSError as error:
            unreadable[name] = error.strerror or str(error)
            continue
        if len(raw) > MAX_FILE_BYTES:
            unreadable[name] = f"is larger than {MAX_FILE_BYTES // 1024 // 1024} MiB"
            continue
        try:
            texts[name] = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            unreadable[name] = f"is not UTF-8 at byte {error.start}"
    return Files(texts, unreadable, tuple(missing))
