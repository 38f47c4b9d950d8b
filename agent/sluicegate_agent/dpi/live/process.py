"""One process of a worker: started, spoken to, watched until it ends."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from sluicegate_agent.dpi.live import messages
from sluicegate_agent.dpi.live.messages import Ended, FromWorker, NonsenseError, Report, Start, ToWorker

MAX_UNREAD: Final = 16 << 20
"""Bytes for the worker that it does not read; ends of flows beyond are dropped and counted."""
_LAST_WORDS: Final = 4096
MODULE: Final = "sluicegate_agent.dpi.live.worker"
# What an interpreter needs to find its modules and libraries. Other variables may be secrets.
_ENVIRONMENT: Final = ("PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")
_DEADLY: Final = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGSYS)
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = resource.getpagesize()


class WorkerProcess:
    """Made by `start`. ``ends`` of flows were sent to it.

    ``said`` is what it said last of itself, ``heard`` how often it said something.
    """

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.pid = process.pid
        self.said = Report()
        self.heard = 0
        self.nonsense = ""
        self.asked_to_stop = False
        self.began: Start | None = None
        self.ends = 0
        self._process = process
        self._reader = reader
        self._writer = writer
        self._words = bytearray()
        self._usage = (0.0, 0)
        self._errors = asyncio.create_task(self._listen_to_errors())

    @classmethod
    async def start(cls, ring: int, verdicts: int, mark: int) -> WorkerProcess:
        """A process that waits for its first frames. Raises OSError."""
        ours, theirs = socket.socketpair()
        try:
            descriptors = (ring, verdicts, mark, theirs.fileno())
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", MODULE, *map(str, descriptors)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=descriptors,
                cwd="/",
                env={name: value for name in _ENVIRONMENT if (value := os.environ.get(name)) is not None},
            )
            reader, writer = await asyncio.open_connection(sock=ours, limit=messages.MAX_FROM_WORKER)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return cls(process, reader, writer)

    def begin(self, start: Start) -> None:
        """What it must know first."""
        self.began = start
        self.send(messages.objects(start))

    def end_flows(self, flows: Collection[Ended]) -> bool:
        """Flows that are over; false when too many wait already."""
        if not self.send(messages.ended(flows), may_drop=True):
            return False
        self.ends += len(flows)
        return True

    def send(self, frame: bytes, *, may_drop: bool = False) -> bool:
        """Put a frame on its way; false when it was dropped because too much waits. Never blocks."""
        if self._writer.is_closing() or (may_drop and self._writer.transport.get_write_buffer_size() > MAX_UNREAD):
            return False
        self._writer.write(frame)
        return True

    async def frame(self) -> tuple[int, bytes] | None:
        """The next one; None when the worker closed. Raises NonsenseError for one that is too long."""
        try:
            length, kind = messages.HEADER.unpack(await self._reader.readexactly(messages.HEADER.size))
            if length > messages.MAX_FROM_WORKER:
                msg = f"a frame of {length} bytes"
                raise NonsenseError(msg)
            body = await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        if kind == FromWorker.REPORT:
            self.said = messages.report_of(body)
            self.heard += 1
        return kind, body

    async def _listen_to_errors(self) -> None:
        """Keep the end of what it writes on its standard error, until it closes it."""
        assert self._process.stderr is not None  # noqa: S101  # it is a pipe
        while data := await self._process.stderr.read(_LAST_WORDS):
            self._words += data
            del self._words[:-_LAST_WORDS]

    @property
    def last_words(self) -> str:
        """The last line on its standard error."""
        lines = bytes(self._words).decode("utf-8", "replace").strip().splitlines()
        return "".join(sign if sign.isprintable() else " " for sign in lines[-1]) if lines else ""

    def stop(self) -> None:
        """Ask it to hand over what it knows, and to end."""
        self.asked_to_stop = True
        self.send(messages.frame(ToWorker.STOP))

    def kill(self) -> None:
        """End it now."""
        with suppress(ProcessLookupError):
            self._process.kill()

    async def end(self, seconds: float) -> int:
        """Wait until it ends, and make it after a while; its exit code, negative for a signal's number."""
        self._writer.close()
        try:
            async with asyncio.timeout(seconds):
                code = await self._process.wait()
        except TimeoutError:
            self.kill()
            code = await self._process.wait()
        except asyncio.CancelledError:
            self.kill()
            await self._process.wait()
            raise
        finally:
            await self._errors
        return code

    def usage(self) -> tuple[float, int]:
        """CPU seconds, and bytes of memory of its own; the last known ones after its end."""
        with suppress(OSError, ValueError, IndexError):
            place = Path(f"/proc/{self.pid}")
            times = place.joinpath("stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            # Without what is mapped: the ring is, twice.
            _, resident, shared, *_ = place.joinpath("statm").read_text(encoding="ascii").split()
            self._usage = (int(times[11]) + int(times[12])) / _TICKS, (int(resident) - int(shared)) * _PAGE
        return self._usage


def end_words(code: int, last_words: str) -> str:
    """Why a process ended that nobody asked to, for people."""
    if code < 0:
        with suppress(ValueError):
            return f"ended by {signal.Signals(-code).name}"
        return f"ended by signal {-code}"
    return last_words or f"ended by itself with exit code {code}"


def died_of_itself(code: int) -> bool:
    """Whether it ended by something that it did, not by somebody's order."""
    return -code in _DEADLY
