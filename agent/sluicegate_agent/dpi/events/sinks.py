"""What a writer's thread writes to: a file, standard output, a unix socket. They may block, but for a second at most.

All of them write whole lines. A call that returns fewer lines than it was given is made again with the rest: at once
when there is no `problem` and the reader is merely slow, else after a while.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from sluicegate_agent.dpi.events.outputs import FileOutput, OutputError
from sluicegate_agent.dpi.events.places import Place
from sluicegate_api.export import EveType

SLOW_SECONDS = 0.5
"""How long a call waits for a reader."""
_PIPE_BYTES = 4096
"""What a pipe that is ready takes without blocking (pipe(7): PIPE_BUF)."""
_FILE_BYTES = 1 << 20


class Sink(Protocol):
    """Takes lines in one thread; ``problem`` says why the last call wrote less, as a sentence without its dot."""

    @property
    def problem(self) -> str:
        """Empty while all is well."""
        ...

    def write(self, lines: Sequence[bytes]) -> int:
        """How many of the lines, from the first on, were written."""
        ...

    def limit(self, max_bytes: int, max_files: int) -> None:
        """New limits, where there are any. In any thread."""
        ...

    def reopen(self) -> None:
        """Open anew before the next line."""
        ...

    def close(self) -> None:
        """Nothing more comes."""
        ...


def open_sink(place: Place) -> Sink:
    """The sink for a place. Nothing is opened yet: what is wrong shows at the first line."""
    match place.type:
        case EveType.FILE:
            return FileSink(Path(place.path), place.max_bytes, place.max_files)
        case EveType.UNIX_SOCKET:
            return SocketSink(place.path)
        case EveType.STDOUT:
            return StdoutSink()


class FileSink:
    """A file, appended to. It is opened anew when somebody renamed or removed it."""

    def __init__(self, path: Path, max_bytes: int, max_files: int) -> None:
        self._path = path
        self._limits = (max_bytes, max_files)
        self._file: FileOutput | None = None
        self.problem = ""

    def write(self, lines: Sequence[bytes]) -> int:
        """Append; the rest when the disk is full stays for later."""
        if self._file is not None and not self._file.in_place():
            self.reopen()
        try:
            self._file = self._file or self._open()
        except OutputError as error:
            self.problem = error.message
            return 0
        self._file.limit(*self._limits)
        done = self._file.append(list(lines))
        self.problem = self._file.problem if done < len(lines) else ""
        return done

    def limit(self, max_bytes: int, max_files: int) -> None:
        """From the next lines on."""
        self._limits = (max_bytes, max_files)

    def reopen(self) -> None:
        """Open the path anew, whatever is there now."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def close(self) -> None:
        """Close the file."""
        self.reopen()

    def _open(self) -> FileOutput:
        with suppress(OSError):  # what is wrong with it, opening the file says better
            self._path.parent.mkdir(mode=0o750, exist_ok=True)
        max_bytes, keep = self._limits
        return FileOutput(self._path, max_bytes=max_bytes, keep=keep, regular=True)


class StdoutSink:
    """Standard output. A line that went out in part is completed: no half of one is followed by another."""

    def __init__(self, file: int | None = None) -> None:
        """``file`` is its descriptor; default that of `sys.stdout`."""
        self._descriptor = sys.stdout.fileno() if file is None else file
        self._sent = 0
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLOUT)
        self.problem = ""

    def write(self, lines: Sequence[bytes]) -> int:
        """Write as far as the reader takes it."""
        data = memoryview(b"".join(lines))[self._sent :]
        done, whole = 0, self._sent
        try:
            most = _FILE_BYTES if stat.S_ISREG(os.fstat(self._descriptor).st_mode) else _PIPE_BYTES
            while done < len(data) and self._poll.poll(SLOW_SECONDS * 1000):
                done += os.write(self._descriptor, data[done : done + most])
            self.problem = ""
        except BlockingIOError:
            self.problem = ""
        except OSError as error:
            self.problem = f"standard output cannot be written: {error.strerror}"
        count, self._sent = _whole_lines(lines, whole + done)
        return count

    def limit(self, max_bytes: int, max_files: int) -> None:
        """It has none."""

    def reopen(self) -> None:
        """It stays as it is."""

    def close(self) -> None:
        """It stays open."""


class SocketSink:
    """A unix stream socket at which a collector listens, as with Suricata's ``unix_stream``.

    When the collector goes away, the line that went out in part begins anew on the next connection.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._poll = select.poll()
        self._sent = 0
        self.problem = ""

    def write(self, lines: Sequence[bytes]) -> int:
        """Send as far as the reader takes it, connecting first where needed."""
        done, start = 0, self._sent
        try:
            connection = self._connected()
            start = self._sent
            data = memoryview(b"".join(lines))[start:]
            while done < len(data) and self._poll.poll(SLOW_SECONDS * 1000):
                done += connection.send(data[done:])
            self.problem = ""
        except OSError as error:
            self.problem = self._reason(error)
            self._disconnect()
            return _whole_lines(lines, start + done)[0]
        count, self._sent = _whole_lines(lines, start + done)
        return count

    def limit(self, max_bytes: int, max_files: int) -> None:
        """It has none."""

    def reopen(self) -> None:
        """The connection stays; without one the next line tries to connect."""

    def close(self) -> None:
        """Disconnect."""
        self._disconnect()

    def _connected(self) -> socket.socket:
        """The connection; one whose reader is gone is replaced before a line is lost in it."""
        if self._socket is not None and any(seen & (select.POLLHUP | select.POLLERR) for _, seen in self._poll.poll(0)):
            self._disconnect()
        if self._socket is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.settimeout(SLOW_SECONDS)
                connection.connect(self._path)
                connection.setblocking(False)
            except OSError:
                connection.close()
                raise
            self._socket = connection
            self._poll.register(connection, select.POLLOUT)
        return self._socket

    def _disconnect(self) -> None:
        self._sent = 0
        if self._socket is not None:
            self._poll.unregister(self._socket)
            self._socket.close()
            self._socket = None

    def _reason(self, error: OSError) -> str:
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            return f"nobody listens on {self._path}"
        if isinstance(error, BrokenPipeError | ConnectionResetError):
            return f"the reader of {self._path} is gone"
        if error.errno == errno.EPROTOTYPE:
            return f"{self._path} is a datagram socket; a stream socket is needed"
        if isinstance(error, TimeoutError | BlockingIOError):
            return f"the listener on {self._path} takes no connection"
        return f"{self._path} cannot be written: {error.strerror or error}"


def _whole_lines(lines: Sequence[bytes], octets: int) -> tuple[int, int]:
    """How many lines so many bytes complete, and how much of the next one they are."""
    for count, line in enumerate(lines):
        if octets < len(line):
            return count, octets
        octets -= len(line)
    return len(lines), 0
