"""Compiled files kept on disk, so that a start compiles only what is new.

What lies here goes into the kernel. So the directory and the entries must belong to the present user, and nobody else
may write them; whatever is not exactly as it was written is left aside and written anew. Any number of loaders may
use one directory: entries appear whole, under a name that says what they were made of.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sluicegate_agent.loader.errors import WARNING
from sluicegate_agent.loader.image import UnitImage
from sluicegate_agent.loader.toolchain import FileIdentity

KEPT = 16
"""Entries; the least recently used ones go first. A set of programs is two of them, 300 kB each."""

_SUFFIX = ".json"
_TEMPORARY = ".new"
_ABANDONED_SECONDS = 600.0
"""A loader lives two minutes at most; a temporary file older than this is nobody's."""

_MOST_BYTES = 64 << 20


class _UnusableError(Exception):
    """Why a directory or an entry is not trusted or not readable."""


@contextmanager
def opened(directory: Path | None, say: Callable[[str], None]) -> Iterator[ProgramCache | None]:
    """The cache in that directory, which is made if need be; None when it is off or must not be used, which is said."""
    if directory is None:
        yield None
        return
    try:
        descriptor = _open_directory(directory)
    except (OSError, _UnusableError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        say(f"{WARNING}compiled programs are not kept in {directory}: {reason}")
        yield None
        return
    try:
        yield ProgramCache(descriptor, say)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class ProgramCache:
    """An open directory of entries; ``say`` gets a line for every entry that cannot be used or written."""

    descriptor: int
    say: Callable[[str], None]

    def get(self, digest: str) -> UnitImage | None:
        """What was kept under this digest; None when nothing was, or nothing that can be used now."""
        name = f"{digest}{_SUFFIX}"
        try:
            image = _decoded(self._read(name), digest)
            os.utime(name, dir_fd=self.descriptor)
        except FileNotFoundError:
            return None
        except (OSError, _UnusableError) as error:
            self.say(f"{WARNING}the cache's entry {name} is not used: {_words(error)}")
            return None
        return image

    def put(self, digest: str, image: UnitImage, made_by: tuple[FileIdentity, ...]) -> None:
        """Keep it, good as long as the compiler's libraries are those of ``made_by``, and drop what is too much."""
        temporary = f"{secrets.token_hex(8)}{_TEMPORARY}"
        try:
            try:
                self._write(temporary, _encoded(digest, image, made_by))
                os.rename(temporary, f"{digest}{_SUFFIX}", src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)
            except OSError:
                self._remove(temporary)
                raise
            self._prune()
        except OSError as error:
            self.say(f"{WARNING}the compiled programs are not kept: {_words(error)}")

    def _read(self, name: str) -> bytes:
        # A FIFO or a link in the place of an entry must neither hold the loader up nor lead it elsewhere.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with open(os.open(name, flags, dir_fd=self.descriptor), "rb") as stream:  # noqa: PTH123 - a descriptor
            _require_own(os.fstat(stream.fileno()), stat.S_ISREG)
            return stream.read(_MOST_BYTES)

    def _write(self, name: str, content: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with open(os.open(name, flags, 0o600, dir_fd=self.descriptor), "wb") as stream:  # noqa: PTH123
            stream.write(content)

    def _prune(self) -> None:
        now = time.time()
        entries = []
        for name in os.listdir(self.descriptor):  # noqa: PTH208 - a descriptor, no path
            with suppress(FileNotFoundError):  # another loader may have removed it
                found = os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
                if name.endswith(_SUFFIX):
                    entries.append((found.st_mtime_ns, name))
                elif name.endswith(_TEMPORARY) and found.st_mtime < now - _ABANDONED_SECONDS:
                    self._remove(name)
        for _, name in sorted(entries, reverse=True)[KEPT:]:
            self._remove(name)

    def _remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.descriptor)


def _open_directory(directory: Path) -> int:
    directory.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    directory.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _require_own(os.fstat(descriptor), stat.S_ISDIR)
    except _UnusableError:
        os.close(descriptor)
        raise
    return descriptor


def _require_own(found: os.stat_result, is_kind: Callable[[int], bool]) -> None:
    """By the open descriptor, not by the name, behind which something else may lie a moment later."""
    if not is_kind(found.st_mode):
        raise _UnusableError("it is no regular file or directory")
    if found.st_uid != os.geteuid():
        raise _UnusableError(f"it belongs to the user {found.st_uid}, not to {os.geteuid()}; remove it")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _UnusableError(f"others may write it (mode {stat.S_IMODE(found.st_mode):o}); remove it")


def _encoded(digest: str, image: UnitImage, made_by: tuple[FileIdentity, ...]) -> bytes:
    """A line with the SHA-256 of the rest, and the rest as JSON."""
    body = json.dumps({"digest": digest, "made_by": made_by, "image": image.to_json()}).encode()
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def _decoded(content: bytes, digest: str) -> UnitImage:
    head, _, body = content.partition(b"\n")
    if head != hashlib.sha256(body).hexdigest().encode():
        raise _UnusableError("it is damaged")
    try:
        raw = json.loads(body)
        if raw["digest"] != digest:
            raise _UnusableError("it was made of something else")
        made_by = [FileIdentity(*row) for row in raw["made_by"]]
        image = UnitImage.from_json(raw["image"])
    except (ValueError, KeyError, TypeError) as error:
        raise _UnusableError("it is damaged") from error
    if changed := [each.path for each in made_by if not each.holds]:
        raise _UnusableError(f"it was made by another compiler ({', '.join(changed)} changed)")
    return image


def _words(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
