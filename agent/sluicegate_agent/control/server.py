"""The agent's side of the control socket."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from sluicegate_agent.control.protocol import (
    ANSWER_SECONDS,
    MAX_REQUEST_BYTES,
    JsonObject,
    MalformedMessageError,
    Request,
    Response,
)
from sluicegate_agent.failure import StartError

log = logging.getLogger(__name__)


class CommandRefusedError(Exception):
    """A command cannot be answered; the message is for the person who asked."""


Handler = Callable[[dict[str, str]], Awaitable[JsonObject]]


class Stream(NamedTuple):
    """An answer that goes on: the object to begin with, then chunks of whole lines.

    The next chunk is asked for when the reader has taken the last one, however long that takes.
    """

    head: JsonObject
    chunks: AsyncGenerator[bytes, None]


StreamHandler = Callable[[dict[str, str]], Awaitable[Stream]]


class ControlServer:
    """Answers commands on a unix socket that only its owner may open. Use as an async context manager."""

    def __init__(
        self, path: Path, handlers: Mapping[str, Handler], streams: Mapping[str, StreamHandler] | None = None
    ) -> None:
        self._path = path
        self._handlers = handlers
        self._streams = streams or {}
        self._streaming: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        listener = _listen(self._path)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=MAX_REQUEST_BYTES)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)
        for task in self._streaming:
            task.cancel()
        await asyncio.gather(*self._streaming, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, TimeoutError):
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    answer = await self._answer(await reader.readline())
                    response = Response(result=answer.head) if isinstance(answer, Stream) else answer
                    writer.write(await asyncio.to_thread(response.encode))  # thousands of flows are megabytes
                    await writer.drain()
                if isinstance(answer, Stream):
                    await self._stream(answer, reader, writer)
            except ValueError:
                log.warning("a request on the control socket was longer than %d bytes", MAX_REQUEST_BYTES)
            finally:
                writer.close()

    async def _stream(self, stream: Stream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the stream is over or its reader has gone."""
        pumping = asyncio.create_task(_pump(stream, writer))
        gone = asyncio.create_task(_end_of(reader))
        tasks = {pumping, gone}
        self._streaming |= tasks
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            self._streaming -= tasks
        for error in ended:
            if isinstance(error, Exception) and not isinstance(error, ConnectionError):
                log.error("a stream on the control socket broke", exc_info=error)

    async def _answer(self, line: bytes) -> Response | Stream:
        try:
            request = Request.decode(line)
        except MalformedMessageError as error:
            return Response(error=f"the request {error}")
        handler, stream = self._handlers.get(request.command), self._streams.get(request.command)
        try:
            if handler is not None:
                return Response(result=await handler(request.arguments))
            if stream is not None:
                return await stream(request.arguments)
        except CommandRefusedError as error:
            return Response(error=str(error))
        except Exception:
            log.exception("the command %r failed", request.command)
            return Response(error=f"{request.command} failed inside the agent; its log has the details")
        known = ", ".join(sorted([*self._handlers, *self._streams]))
        return Response(error=f"unknown command {request.command!r}; this agent knows {known}")


async def _pump(stream: Stream, writer: asyncio.StreamWriter) -> None:
    async with aclosing(stream.chunks) as chunks:
        async for chunk in chunks:
            writer.write(chunk)
            await writer.drain()


async def _end_of(reader: asyncio.StreamReader) -> None:
    """Wait until the other side closes; what it says meanwhile is nothing to us."""
    while await reader.read(4096):
        pass


def remove_stale(path: Path) -> None:
    """Remove a socket that a killed agent left; nothing there is fine, and a living agent's stays."""
    if not _answers(path):
        path.unlink(missing_ok=True)


def _listen(path: Path) -> socket.socket:
    """A listening socket at the path; what a killed agent left there is replaced, a living one is not."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if _answers(path):
        raise StartError(
            f"another agent listens on {path}",
            "stop that agent first, or name another namespace with --netns",
        )
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
        listener.listen(16)
    except OSError as error:
        listener.close()
        raise StartError(
            f"cannot listen on {path}: {error.strerror or error}",
            f"{path.parent} must be a directory that root can write",
        ) from error
    finally:
        os.umask(mask)
    return listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
