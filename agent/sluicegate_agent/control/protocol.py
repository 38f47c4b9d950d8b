"""What goes over the control socket: one line of JSON each way, then the connection closes.

A stream goes on after its first line, until either side closes: each line is one object. Those with the key ``stream``
alone are about the stream itself; the last one says that it is complete.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

SOCKET_DIRECTORY = Path("/run/sluicegate")
MAX_REQUEST_BYTES = 64 * 1024
ANSWER_SECONDS = 10.0
"""How long either side waits for the other."""

JsonObject = dict[str, object]

_ABOUT = b'{"stream": '


class MalformedMessageError(Exception):
    """A line that is no message of this protocol."""


@dataclass(frozen=True, slots=True)
class Request:
    """One question to the agent, for instance command "why" with the argument ``target``."""

    command: str
    arguments: dict[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The line to send."""
        return json.dumps({"command": self.command, "arguments": self.arguments}).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Request:
        """Raises :class:`MalformedMessageError`."""
        message = _object(line)
        command, arguments = message.get("command"), message.get("arguments", {})
        if not isinstance(command, str) or not isinstance(arguments, dict):
            raise MalformedMessageError("wants a command and its arguments")
        return cls(command, {str(name): str(value) for name, value in arguments.items()})


@dataclass(frozen=True, slots=True)
class Response:
    """Either a result or an error for people."""

    result: JsonObject = field(default_factory=dict)
    error: str | None = None

    def encode(self) -> bytes:
        """The line to send."""
        body: JsonObject = {"result": self.result} if self.error is None else {"error": self.error}
        return json.dumps(body).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Response:
        """Raises :class:`MalformedMessageError`."""
        message = _object(line)
        if isinstance(error := message.get("error"), str):
            return cls(error=error)
        if isinstance(result := message.get("result"), dict):
            return cls(result=result)
        raise MalformedMessageError("has neither a result nor an error")


def stream_line(**about: object) -> bytes:
    """A line about the stream: ``missed`` lines before this one, ``backlog`` done, ``end``."""
    return json.dumps({"stream": about}).encode() + b"\n"


def about_stream(line: bytes) -> JsonObject | None:
    """What a line says about its stream; None for a line of content."""
    if not line.startswith(_ABOUT):
        return None
    about = _object(line)["stream"]
    return about if isinstance(about, dict) else {}


def _object(line: bytes) -> JsonObject:
    try:
        message = json.loads(line)
    except ValueError as error:
        raise MalformedMessageError("is no JSON") from error
    if not isinstance(message, dict):
        raise MalformedMessageError("is no JSON object")
    return message


def socket_path(scope: str) -> Path:
    """Socket of the agent that runs for a namespace, or for "host"."""
    return SOCKET_DIRECTORY / f"{scope}.sock"
