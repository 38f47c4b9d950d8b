"""The agent's side of the control socket."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

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


class ControlServer:
    """Answers commands on a unix socket that only its owner may open. Use as an async context manager."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self._path = path
        self._handlers = handlers
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

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, TimeoutError):
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    response = await self._answer(await reader.readline())
                    writer.write(await asyncio.to_thread(response.encode))  # thousands of flows are megabytes
                    await writer.drain()
            except ValueError:
                log.warning("a request on the control socket was longer than %d bytes", MAX_REQUEST_BYTES)
            finally:
                writer.close()

    async def _answer(self, line: bytes) -> Response:
        try:
            request = Request.decode(line)
        except MalformedMessageError as error:
            return Response(error=f"the request {error}")
        handler = self._handlers.get(request.command)
        if handler is None:
            known = ", ".join(sorted(self._handlers))
            return Response(error=f"unknown command {request.command!r}; this agent knows {known}")
        try:
            return Response(result=await handler(request.arguments))
        except CommandRefusedError as error:
            return Response(error=str(error))
        except Exception:
            log.exception("the command %r failed", request.command)
            return Response(error=f"{request.command} failed inside the agent; its log has the details")


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
