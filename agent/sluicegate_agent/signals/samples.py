"""The result of a PromQL query: which of its samples is which backend's."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from typing import Final

from sluicegate_agent.datapath.model import IPAddress
from sluicegate_agent.signals.errors import SignalError, printable, quoted
from sluicegate_agent.signals.model import Report
from sluicegate_agent.signals.orca import bounded_utilization, kind_of, parse_json
from sluicegate_api.backends import endpoint_text

LABELS: Final = ("instance", "address", "ip", "pod_ip")
"""Labels that tell whose a sample is; the first one that holds an address does."""
_LONGEST_WORDS: Final = 200
"""Characters of Prometheus' own words that are shown."""

Place = tuple[IPAddress, int]
"""Address and port."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample with an address. ``port`` is None where its label has none, ``value`` is as Prometheus wrote it."""

    label: str
    address: IPAddress
    port: int | None
    value: object

    def __str__(self) -> str:
        where = str(self.address) if self.port is None else endpoint_text(self.address, self.port)
        return f'{self.label}="{where}"'


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples of one answer by address; ``unplaced`` are those without an address in any of :data:`LABELS`."""

    by_address: Mapping[IPAddress, tuple[Sample, ...]]
    unplaced: int = 0

    @property
    def count(self) -> int:
        """All samples."""
        return self.unplaced + sum(map(len, self.by_address.values()))

    def report(self, address: IPAddress, port: int, others: Collection[Place] = ()) -> Report:
        """What the one sample of a backend says: its utilisation. Raises SignalError.

        A sample with the backend's own port is its own. Without one, the sample of its address is, whatever its port
        (exporters have ports of their own), unless that is the place of one of the ``others``.
        """
        place = endpoint_text(address, port)
        at_address = self.by_address.get(address, ())
        own = [sample for sample in at_address if sample.port == port] or [
            sample for sample in at_address if sample.port is None or (address, sample.port) not in others
        ]
        if not own:
            raise SignalError(f"no sample for {place}{self._instead()}")
        if len(own) > 1:
            shown = ", ".join(str(sample) for sample in own[:3]) + (", ..." if len(own) > 3 else "")
            raise SignalError(f"{len(own)} samples for {place} ({shown}): let the query give one for each backend")
        return Report(utilization=bounded_utilization(_number(own[0], place), f"the sample for {place}"))

    def _instead(self) -> str:
        if not self.count:
            return ": the query's result is empty"
        if not self.by_address:
            return f": none of its {self.count} has an address in one of the labels {', '.join(LABELS)}"
        return f" among {self.count}"


def _number(sample: Sample, place: str) -> float:
    """A sample's value is a text, for NaN and infinity have no number in JSON."""
    if not isinstance(sample.value, str):
        raise SignalError(f"the sample for {place} is {kind_of(sample.value)}, not a number as text")
    try:
        return float(sample.value)
    except ValueError as error:
        raise SignalError(f"the sample for {place} is {quoted(sample.value)}, not a number") from error


def parse_samples(status: int, body: bytes) -> Samples:
    """The samples in an answer of ``/api/v1/query``, with its HTTP status. Raises SignalError."""
    if status == HTTPStatus.UNAUTHORIZED:
        raise SignalError("status 401: it wants credentials, which are not supported here yet")
    try:
        answer = parse_json(body)
    except SignalError:
        if status == HTTPStatus.OK:
            raise
        answer = None
    if isinstance(answer, dict) and answer.get("status") == "error":
        sort, words = (printable(str(answer.get(name, "")), _LONGEST_WORDS) for name in ("errorType", "error"))
        raise SignalError(f"the query failed: {sort}: {words}")
    if status != HTTPStatus.OK:
        raise SignalError(f"status {status}, expected 200")
    data = answer.get("data") if isinstance(answer, dict) and answer.get("status") == "success" else None
    if not isinstance(data, dict):
        raise SignalError(f"the answer is not one of Prometheus: {quoted(body)}")
    if data.get("resultType") != "vector":
        found = printable(str(data.get("resultType")))
        raise SignalError(f"the query's result is a {found}, not an instant vector with one sample per backend")
    result = data.get("result")
    if not isinstance(result, list):
        raise SignalError(f"the query's result is {kind_of(result)}, not a list of samples")
    return _sorted(result)


def _sorted(result: list[object]) -> Samples:
    by_address: dict[IPAddress, list[Sample]] = {}
    unplaced = 0
    for item in result:
        match item:
            case {"metric": dict() as labels, "value": [_, value]}:
                sample = _placed(labels, value)
            case _:
                raise SignalError(f"the query's result holds {kind_of(item)} where a sample belongs")
        if sample is None:
            unplaced += 1
        else:
            by_address.setdefault(sample.address, []).append(sample)
    return Samples({address: tuple(samples) for address, samples in by_address.items()}, unplaced)


def _placed(labels: dict[str, object], value: object) -> Sample | None:
    for label in LABELS:
        text = labels.get(label)
        if isinstance(text, str) and (place := parse_place(text)) is not None:
            return Sample(label, *place, value)
    return None


def parse_place(text: str) -> tuple[IPAddress, int | None] | None:
    """Address and port in ``10.0.0.5:80``, ``10.0.0.5``, ``[fd00::5]:80``, ``[fd00::5]`` or ``fd00::5``; else None."""
    host, colon, port = text.rpartition(":")
    bracketed = text.startswith("[")
    if not colon or (":" in host and not bracketed) or (bracketed and text.endswith("]")):
        host, port = text, ""
    elif not (port.isascii() and port.isdigit() and len(port) <= 5):
        return None
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ":" not in host:
            return None
    try:
        return ip_address(host), int(port) if port else None
    except ValueError:
        return None
