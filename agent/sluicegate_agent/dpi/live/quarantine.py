"""Records that ended a worker: kept for whoever wants to know why, a bounded number of them, for root's eyes only."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

MAX_FILES: Final = 64


class Quarantine:
    """A folder of records, each as it was in the ring: struct sg_record of native/engine.h, then the packet."""

    def __init__(self, folder: Path, limit: int = MAX_FILES) -> None:
        """``folder`` is made when the first record comes. ``limit``: files; the oldest go."""
        self.folder = folder
        self._limit = limit

    def save(self, worker: int, record: bytes) -> Path:
        """Write one; raises OSError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.folder / f"{time.time_ns()}-{worker}.record"
        fresh = path.with_suffix(".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(record)
            fresh.replace(path)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
        for old in sorted(self.folder.glob("*.record"))[: -self._limit]:
            old.unlink(missing_ok=True)
        return path
