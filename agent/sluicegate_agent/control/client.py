"""The command line's side of the control socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from sluicegate_agent.control.protocol import (
    ANSWER_SECONDS,
    SOCKET_DIRECTORY,
    JsonObject,
    MalformedMessageError,
    Request,
    Response,
    about_stream,
    socket_path,
)


class AgentUnreachableError(Exception):
    """No agent answers. ``next`` says what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.next = remedy


class AmbiguousAgentError(Exception):
    """Several agents run and none was named. The message lists their sockets."""


class CommandFailedError(Exception):
    """The agent answered with an error for people."""


def find_socket(netns: str | None = None, path: Path | None = None, *, directory: Path = SOCKET_DIRECTORY) -> Path:
    """The socket that was named, else the only one there. Raises AgentUnreachableError or AmbiguousAgentError."""
    if path is not None:
        return path
    if netns is not None:
        return directory / socket_path(netns).name
    found = sorted(directory.glob("*.sock")) if directory.is_dir() else []
    living = [candidate for candidate in found if _listens(candidate)] if len(found) > 1 else found
    if not living:
        raise AgentUnreachableError(
            f"no agent is running: no socket in {directory}",
            "start one with: sluicegate run -f FILE",
        )
    if len(living) > 1:
        names = "\n".join(f"  --netns {candidate.stem}   or   --socket {candidate}" for candidate in living)
        raise AmbiguousAgentError(f"several agents run here; say which one:\n{names}")
    return living[0]


def ask(path: Path, request: Request, *, timeout: float = ANSWER_SECONDS) -> JsonObject:
    """Send one request and wait for its result. ``timeout`` in seconds."""
    with _asked(path, request, timeout) as (result, _, _):
        return result


@contextmanager
def stream(path: Path, request: Request) -> Iterator[tuple[JsonObject, Iterator[bytes]]]:
    """Send a request for a stream: its first object, and its lines. Those wait as long as it takes.

    Raises AgentUnreachableError, also when the agent ends before the stream does.
    """
    with _asked(path, request, ANSWER_SECONDS) as (result, connection, lines):
        connection.settimeout(None)
        yield result, _lines(path, lines)


@contextmanager
def _asked(path: Path, request: Request, timeout: float) -> Iterator[tuple[JsonObject, socket.socket, BufferedReader]]:
    """The connection after its first answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection, connection.makefile("rb") as lines:
        with _explained(path, timeout):
            connection.settimeout(timeout)
            connection.connect(str(path))
            connection.sendall(request.encode())
            line = lines.readline()
        try:
            response = Response.decode(line)
        except MalformedMessageError as error:
            raise AgentUnreachableError(
                f"the answer on {path} {error}" if line else f"the agent on {path} closed the connection",
                "agent and command line may be of different versions: compare sluicegate --version",
            ) from error
        if response.error is not None:
            raise CommandFailedError(response.error)
        yield response.result, connection, lines


def _lines(path: Path, lines: BufferedReader) -> Iterator[bytes]:
    with _explained(path, 0.0):
        while (line := lines.readline()).endswith(b"\n"):
            yield line
            if (about := about_stream(line)) is not None and "end" in about:
                return
    raise AgentUnreachableError(f"the agent on {path} has gone", "its log tells why; sluicegate status")


@contextmanager
def _explained(path: Path, timeout: float) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise AgentUnreachableError(f"no permission for {path}", "the control socket is root's: use sudo") from error
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise AgentUnreachableError(
            f"no agent listens on {path}",
            "start one with: sluicegate run -f FILE (its log tells why if it stopped)",
        ) from error
    except TimeoutError as error:
        raise AgentUnreachableError(
            f"the agent on {path} did not answer within {timeout:g} s",
            "it is overloaded or stopped: see its log and its process state",
        ) from error
    except OSError as error:
        raise AgentUnreachableError(
            f"cannot talk to {path}: {error.strerror or error}", "see the agent's log"
        ) from error


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except PermissionError:
            return True
        except OSError:
            return False
        return True
