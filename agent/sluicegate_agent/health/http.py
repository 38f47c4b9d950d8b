"""The HTTP check: does a GET answer with an expected status within the timeout?

Plain HTTP/1.1 (RFC 9112). The response's head is read to its end, so that what passes has really spoken HTTP; its body
is not, however long it is: the connection is reset as soon as the head is there. Time and bytes are bounded, whatever
the other side does.
"""

from __future__ import annotations

from typing import Final

from sluicegate_agent.asking.connection import Connection
from sluicegate_agent.asking.http import (
    BEGINNING,
    END_OF_HEAD,
    LONGEST_END,
    LONGEST_HEAD,
    STATUS_LINE,
    SWITCHING_PROTOCOLS,
)
from sluicegate_agent.health.connection import CheckFailedError, ask
from sluicegate_agent.health.model import HttpQuestion, Outcome, Target
from sluicegate_api.backends import endpoint_text

_CHUNK: Final = 4096
_SHOWN: Final = 16
"""Bytes of an answer that is no HTTP, told to the operator."""

_TLS_RECORD: Final = (b"\x15\x03", b"\x16\x03")
"""An alert or a handshake: the answer of a TLS server to something else than TLS."""


async def check_http(target: Target, question: HttpQuestion) -> Outcome:
    """Ask the target once and reset the connection."""
    request = _request(question, endpoint_text(target.address, target.port))

    async def talk(connection: Connection) -> str:
        connection.send(request)
        status = await _status(connection, question.expected, target.timeout)
        if status not in question.expected:
            raise CheckFailedError(f"status {status}, expected {_choices(question.expected)}")
        return f"status {status}"

    return await ask(target, talk)


def _request(question: HttpQuestion, endpoint: str) -> bytes:
    lines = (
        f"GET {question.path} HTTP/1.1",
        f"Host: {question.host or endpoint}",
        "User-Agent: sluicegate-health",
        "Accept: */*",
        "Connection: close",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


async def _status(connection: Connection, expected: frozenset[int], seconds: float) -> int:
    """The status of the response, past interim ones that are not expected themselves."""
    head = bytearray()
    left = LONGEST_HEAD
    searched = 0
    while True:
        while end := END_OF_HEAD.search(head, searched):
            line = STATUS_LINE.match(head)
            if line is None:
                raise CheckFailedError(_no_http(head))
            status = int(line[1])
            if status >= 200 or status == SWITCHING_PROTOCOLS or status in expected:
                return status
            del head[: end.end()]
            searched = 0
        if not head.startswith(BEGINNING[: len(head)]):
            raise CheckFailedError(_no_http(head))
        if not left:
            raise CheckFailedError(f"the head of the HTTP response is longer than {LONGEST_HEAD} bytes")
        received = await connection.receive(min(_CHUNK, left))
        if received is None:
            raise CheckFailedError(_slow(LONGEST_HEAD - left, seconds))
        if not received:
            came = f"after {LONGEST_HEAD - left} bytes, within the head of an HTTP response"
            raise CheckFailedError(f"connection closed {came if left < LONGEST_HEAD else 'without an answer'}")
        searched = max(len(head) - LONGEST_END, 0)
        head += received
        left -= len(received)


def _slow(came: int, seconds: float) -> str:
    if came:
        return f"the head of the HTTP response was not complete within {seconds:g} s ({came} bytes came)"
    return f"connected, but no HTTP response within {seconds:g} s"


def _no_http(answer: bytearray) -> str:
    if answer.startswith(_TLS_RECORD):
        return "no HTTP: the port speaks TLS, and the check is plain HTTP"
    return f"no HTTP: the answer begins with {bytes(answer[:_SHOWN])!r}"


def _choices(expected: frozenset[int]) -> str:
    return " or ".join(str(status) for status in sorted(expected))
