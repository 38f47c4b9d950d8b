"""Where lines go: a file with rotation by size, or standard output. Whole lines only, whatever fails."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path
from typing import Protocol


class OutputError(Exception):
    """The output cannot be opened. ``remedy`` says what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class Output(Protocol):
    """Takes lines. ``lost`` counts lines that could not be written, ``problem`` says why, as a sentence's end."""

    @property
    def written(self) -> int:
        """Lines."""
        ...

    @property
    def lost(self) -> int:
        """Lines."""
        ...

    @property
    def problem(self) -> str:
        """Empty while all is well."""
        ...

    def write(self, lines: list[bytes]) -> None:
        """Write whole lines, each with its newline; never raises."""
        ...

    def close(self) -> None:
        """Nothing more comes."""
        ...


class Nowhere:
    """Takes lines and forgets them."""

    written = 0
    lost = 0
    problem = ""

    def write(self, lines: list[bytes]) -> None:
        """Nothing was asked for."""

    def close(self) -> None:
        """Nothing to do."""


class FileOutput:
    """A file. With ``max_bytes`` it is renamed to NAME.1 when full, and so on up to NAME.``keep``.

    ``fresh``: begin with an empty file; otherwise lines are appended. ``regular``: refuse pipes and devices. After a
    failed write the file is cut back to its last whole line, and the next write tries again. A full file that cannot be
    renamed takes no more lines.
    """

    def __init__(
        self, path: Path, *, fresh: bool = False, max_bytes: int | None = None, keep: int = 5, regular: bool = False
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._regular = regular
        self.written = self.lost = 0
        self.problem = ""
        try:
            self._file = self._open(fresh=fresh)
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror}", "name another file with --eve") from error
        self._size = os.fstat(self._file).st_size

    def write(self, lines: list[bytes]) -> None:
        """Append, beginning a new file between two lines where one is due. What cannot be written is lost."""
        self.lost += len(lines) - self.append(lines)

    def append(self, lines: list[bytes]) -> int:
        """The same, but what cannot be written is the caller's: how many lines were, from the first on."""
        start, size = 0, self._size
        for index, line in enumerate(lines):
            if self._max_bytes is not None and size and size + len(line) > self._max_bytes:
                done = self._append(lines[start:index])
                if start + done < index or not self._rotate():
                    return start + done
                start, size = index, self._size
            size += len(line)
        return start + self._append(lines[start:])

    def limit(self, max_bytes: int, keep: int) -> None:
        """New limits, from the next line on."""
        self._max_bytes, self._keep = max_bytes, keep

    def in_place(self) -> bool:
        """Whether the path still names the open file, however long that is now."""
        try:
            there, ours = self._path.stat(), os.fstat(self._file)
        except OSError:
            return False
        self._size = ours.st_size
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open(self, *, fresh: bool) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | (os.O_TRUNC if fresh else 0)
        if not self._regular:
            return os.open(self._path, flags, 0o640)
        file = os.open(self._path, flags | os.O_NONBLOCK, 0o640)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise OSError(errno.EINVAL, "it is not a regular file")
        return file

    def _append(self, lines: list[bytes]) -> int:
        if not lines:
            return 0
        data = b"".join(lines)
        done = 0
        try:
            if self._file < 0:
                self._file = self._open(fresh=False)
                self._size = os.fstat(self._file).st_size
            while done < len(data):
                done += os.write(self._file, data[done:] if done else data)
        except OSError as error:
            whole = self._keep_whole_lines(data, done, error)
        else:
            whole = len(lines)
        self.written += whole
        self._size += done
        return whole

    def _keep_whole_lines(self, data: bytes, done: int, error: OSError) -> int:
        """Cut off what of the data is only a part of a line; how many whole lines were written."""
        kept = data.rfind(b"\n", 0, done) + 1
        self.problem = f"{self._path} cannot be written: {error.strerror}"
        try:
            if kept < done:
                os.ftruncate(self._file, self._size + kept)
                self._size -= done - kept
        except OSError:
            self.problem += "; its last line may be cut off"
        return data.count(b"\n", 0, kept)

    def _rotate(self) -> bool:
        try:
            for number in range(self._keep - 1, 0, -1):
                old = self._path.with_name(f"{self._path.name}.{number}")
                if old.exists():
                    old.replace(self._path.with_name(f"{self._path.name}.{number + 1}"))
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        except OSError as error:
            self.problem = f"{self._path} is full and cannot be renamed: {error.strerror}"
            return False
        self.close()
        self._size = 0
        try:
            self._file = self._open(fresh=False)
        except OSError as error:
            self.problem = f"{self._path} cannot be written: {error.strerror}"
        return True


class StreamOutput:
    """Standard output. When its reader is gone, what follows counts as lost."""

    def __init__(self) -> None:
        sys.stdout.flush()
        self._stream = sys.stdout.buffer
        self.written = self.lost = 0
        self.problem = ""

    def write(self, lines: list[bytes]) -> None:
        """Write, and hand over at once."""
        if self.problem:
            self.lost += len(lines)
            return
        try:
            self._stream.write(b"".join(lines))
            self._stream.flush()
        except OSError as error:
            self.lost += len(lines)
            self.problem = f"standard output cannot be written: {error.strerror}"
            self._forget()
        else:
            self.written += len(lines)

    def close(self) -> None:
        """Standard output stays open."""

    @staticmethod
    def _forget() -> None:
        """Point standard output to nowhere, so that the interpreter does not fail on what is left in its buffer."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
