"""Which compiler and which kernel headers would compile now: told from files, without starting the compiler."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from sluicegate_agent.loader import sources
from sluicegate_agent.loader.compiler import ARCHIVE, FLAGS, MODULES

FORMAT = 1
"""Moves when :mod:`image` or the compiler's driver turns the same input into something else."""

_VARIABLES = ("BCC_KERNEL_SOURCE", "BCC_KERNEL_MODULES_DIR", "BCC_KERNEL_MODULES_SUFFIX", "BCC_LINUX_VERSION_CODE")
"""By which bcc lets itself be sent to other headers."""

_LIBRARIES = ("libbcc", "libLLVM", "libclang")


class FileIdentity(NamedTuple):
    """A file as it is now; another one in its place has another size or time (nanoseconds)."""

    path: str
    size: int
    mtime: int

    @classmethod
    def of(cls, path: Path) -> FileIdentity:
        """Links are followed. Raises OSError."""
        real = path.resolve(strict=True)
        found = real.stat()
        return cls(str(real), found.st_size, found.st_mtime_ns)

    @property
    def holds(self) -> bool:
        """Whether that file is still there, and the same."""
        try:
            return FileIdentity.of(Path(self.path)) == self
        except OSError:
            return False


def digest_of(
    file: str, text: str, defines: tuple[str, ...], *, modules: Path = MODULES, archive: Path = ARCHIVE
) -> str:
    """SHA-256 over all that decides what the compiler makes of a joined text, as far as can be told beforehand.

    Which libraries bcc takes shows only when it runs, see :func:`libraries`.
    """
    content = [FORMAT, file, sources.without_places(text), FLAGS, defines, _bcc(), _kernel(modules, archive)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def libraries(maps: Path = Path("/proc/self/maps")) -> tuple[FileIdentity, ...]:
    """The compiler's shared libraries in this process, which has compiled something."""
    paths = {line.split(maxsplit=5)[5] for line in maps.read_text().splitlines() if line.count("/")}
    return tuple(_existing(Path(path) for path in sorted(paths) if Path(path).name.startswith(_LIBRARIES)))


def _bcc() -> list[FileIdentity]:
    """bcc's Python modules, the one with its version among them; the package itself is not imported."""
    spec = importlib.util.find_spec("bcc")
    places = [] if spec is None else list(spec.submodule_search_locations or ())
    return list(_existing(path for place in places for path in sorted(Path(place).glob("*.py"))))


def _kernel(modules: Path, archive: Path) -> list[object]:
    release = platform.release()
    places = [modules / release / name for name in ("build", "source")]
    # Rewritten when headers of the same name are installed anew.
    marks = [place / "include" / "generated" / "autoconf.h" for place in places]
    return [
        release,
        platform.version(),
        platform.machine(),
        [str(place.resolve()) for place in places if place.exists()],
        list(_existing([*marks, archive])),
        [os.environ.get(name) for name in _VARIABLES],
    ]


def _existing(paths: Iterable[Path]) -> Iterable[FileIdentity]:
    for path in paths:
        try:
            yield FileIdentity.of(path)
        except OSError:
            continue
