"""HTTP load: a URL of the backend that answers with its load as JSON.

Names and meaning are those of ORCA, the Open Request Cost Aggregation of Envoy and gRPC (``xds.data.orca.v3``,
OrcaLoadReport): ``application_utilization``, ``cpu_utilization``, ``rps_fractional``, ``eps``. Others are ignored.
"""

from __future__ import annotations

import json
import math
from http import HTTPStatus
from typing import Final

from sluicegate_agent.asking.connection import Connection
from sluicegate_agent.signals.errors import SignalError, quoted
from sluicegate_agent.signals.http import CHUNK, Response, get_request
from sluicegate_agent.signals.model import Report
from sluicegate_agent.signals.targets import LoadQuestion
from sluicegate_api.backends import endpoint_text

LONGEST_BODY: Final = 65_536
MOST_UTILIZATION: Final = 10.0
"""1 is full. Ten times overloaded is beyond what a backend lives to tell; what is above is most likely per cent."""
MOST_PER_SECOND: Final = 1e9
"""Requests or errors per second; far above what one backend can answer."""

_UTILIZATION = ("application_utilization", "cpu_utilization")
_RATES = ("rps_fractional", "eps")


async def ask_load(connection: Connection, question: LoadQuestion, seconds: float) -> Report:
    """What the backend at the other end answers; ``seconds`` is the time it was given, for words.

    Raises SignalError and OSError.
    """
    host = endpoint_text(question.address, question.port)
    connection.send(get_request(question.path, host, "sluicegate-signals"))
    response = Response(LONGEST_BODY)
    while received := await connection.receive(CHUNK):
        if response.feed(received):
            break
    else:
        if received is None:
            came = f"the answer was not complete within {seconds:g} s ({response.received} bytes came)"
            raise SignalError(came if response.received else f"connected, but no answer within {seconds:g} s")
        response.end()
    if response.status != HTTPStatus.OK:
        raise SignalError(f"status {response.status}, expected 200")
    return parse_load(bytes(response.body))


def parse_load(body: bytes) -> Report:
    """The report in an answer's body. Raises SignalError, which names the field.

    The utilisation is the larger one of the two, so that neither a full CPU nor a full application is hidden.
    """
    load = parse_json(body)
    if not isinstance(load, dict):
        raise SignalError(f"the answer is {kind_of(load)}, not an object")
    found = {name: load[name] for name in (*_UTILIZATION, *_RATES) if load.get(name) is not None}
    if not found:
        raise SignalError(f"the answer has none of {', '.join((*_UTILIZATION, *_RATES))}")
    used = [number for name in _UTILIZATION if (number := _number(found, name, MOST_UTILIZATION)) is not None]
    return Report(
        utilization=max(used, default=None),
        rps=_number(found, "rps_fractional", MOST_PER_SECOND),
        eps=_number(found, "eps", MOST_PER_SECOND),
    )


def parse_json(body: bytes) -> object:
    """A JSON text. Raises SignalError."""
    try:
        parsed: object = json.loads(body)
    except (ValueError, RecursionError) as error:
        # RecursionError: brackets in brackets, thousands deep. ValueError is also for text that is not UTF-8.
        shown = f": it begins with {quoted(body)}" if body else ", it is empty"
        raise SignalError(f"the answer is not JSON{shown}") from error
    return parsed


def kind_of(value: object) -> str:
    """What sort of JSON value it is, in words."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str():
            return f"the text {quoted(value)}"
        case int() | float():
            return "a number"
        case list():
            return "a list"
        case _:
            return "an object"


def bounded_utilization(number: float, name: str) -> float:
    """The number, if a utilisation can be that. Raises SignalError, which calls it ``name``."""
    return _bounded(number, name, MOST_UTILIZATION)


def _number(load: dict[str, object], name: str, most: float) -> float | None:
    value = load.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SignalError(f"{name} is {kind_of(value)}, not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf if value > 0 else -math.inf
    return _bounded(number, name, most)


def _bounded(number: float, name: str, most: float) -> float:
    if math.isnan(number):
        raise SignalError(f"{name} is not a number (NaN)")
    if number < 0:
        raise SignalError(f"{name} is {number:g}, below 0")
    if number > most:
        advice = ": 1 means full, give no per cent" if most == MOST_UTILIZATION else ""
        raise SignalError(f"{name} is {number:g}, above {most:g}{advice}")
    return number + 0.0  # no negative zero
