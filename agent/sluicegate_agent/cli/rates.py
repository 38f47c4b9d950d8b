"""Rates for ``top`` from two answers of the agent. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Generic, TypedDict, TypeVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from sluicegate_agent.cli.document import Owner, Place
from sluicegate_agent.reports.quantiles import quantile, since
from sluicegate_agent.signals.model import Histogram


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)


class _Counts(_Part):
    load_balancer: Owner
    state: str
    reason: str
    packets: int
    bytes: int
    new_flows: int
    active_flows: int

    @property
    def place(self) -> Place:
        """Where the packets are counted."""
        raise NotImplementedError

    @property
    def identity(self) -> tuple[str, str]:
        """What makes it the same in two answers."""
        return str(self.load_balancer), str(self.place)


class BackendCounts(_Counts):
    """A backend of a port; ``first_response`` are the buckets of a histogram."""

    backend: Place
    weight: int
    effective_weight: float
    in_flight: int
    responses: int
    failures: int
    overridden: bool
    first_response: list[int]

    @property
    def place(self) -> Place:
        """Its address and port."""
        return self.backend


class VipCounts(_Counts):
    """A VIP of a port."""

    vip: Place
    protocol: str
    dropped: int

    @property
    def place(self) -> Place:
        """Its address and port."""
        return self.vip


class _Empty(_Part):
    backends: str
    vips: str


class TopAnswer(_Part):
    """One answer to ``top``; ``seconds`` is CLOCK_MONOTONIC on the agent's machine."""

    seconds: float
    backends: list[BackendCounts]
    vips: list[VipCounts]
    empty: _Empty
    silent: str


@dataclass(frozen=True, slots=True)
class Row:
    """What both views show. Rates are per second; times in seconds, None when nothing was measured meanwhile."""

    load_balancer: str
    port: str
    name: str
    state: str
    new_flows_per_second: float
    active_flows: int
    packets_per_second: float
    bits_per_second: float
    reason: str


@dataclass(frozen=True, slots=True)
class BackendRow(Row):
    """A backend; the times are those of the first byte of a response, of one flow in eight."""

    weight: int
    effective_weight: float
    in_flight: int
    responses_per_second: float
    failures_per_second: float
    p50: float | None
    p99: float | None
    overridden: bool


@dataclass(frozen=True, slots=True)
class VipRow(Row):
    """A VIP."""

    protocol: str
    dropped_per_second: float


R = TypeVar("R", BackendRow, VipRow)


@dataclass(frozen=True, slots=True)
class View(Generic[R]):
    """Rows over some ``seconds``; ``note`` says why there are none, or why nothing moves."""

    seconds: float
    rows: tuple[R, ...]
    note: str = ""


BACKEND_SORTS = {
    "flows": "new_flows_per_second",
    "active": "active_flows",
    "inflight": "in_flight",
    "packets": "packets_per_second",
    "bits": "bits_per_second",
    "p50": "p50",
    "p99": "p99",
    "failures": "failures_per_second",
    "weight": "effective_weight",
    "name": "name",
}
"""Keys of --sort and what they mean; the largest comes first, names in their order."""

VIP_SORTS = {
    "flows": "new_flows_per_second",
    "active": "active_flows",
    "packets": "packets_per_second",
    "bits": "bits_per_second",
    "dropped": "dropped_per_second",
    "name": "name",
}


def backend_view(before: TopAnswer, after: TopAnswer, sort: str) -> View[BackendRow]:
    """Backends between two answers. A backend that is new, or whose counters began anew, counts from nothing."""
    seconds = _seconds(before, after)
    rows = []
    for old, now in _pairs(before.backends, after.backends):
        times = since(Histogram(tuple(old.first_response)), Histogram(tuple(now.first_response))) if old else None
        times = times or Histogram(tuple(now.first_response))
        rows.append(
            BackendRow(
                **_common(old, now, seconds),
                weight=now.weight,
                effective_weight=now.effective_weight,
                in_flight=now.in_flight,
                responses_per_second=_rate(old.responses if old else 0, now.responses, seconds),
                failures_per_second=_rate(old.failures if old else 0, now.failures, seconds),
                p50=quantile(times, 0.5),
                p99=quantile(times, 0.99),
                overridden=now.overridden,
            )
        )
    return View(seconds, _sorted(rows, BACKEND_SORTS[sort]), after.empty.backends or _still(rows, after, seconds))


def vip_view(before: TopAnswer, after: TopAnswer, sort: str) -> View[VipRow]:
    """VIPs between two answers."""
    seconds = _seconds(before, after)
    rows = []
    for old, now in _pairs(before.vips, after.vips):
        rows.append(
            VipRow(
                **_common(old, now, seconds),
                protocol=now.protocol,
                dropped_per_second=_rate(old.dropped if old else 0, now.dropped, seconds),
            )
        )
    return View(seconds, _sorted(rows, VIP_SORTS[sort]), after.empty.vips or _still(rows, after, seconds))


def row_document(row: BackendRow | VipRow) -> dict[str, object]:
    """A row as JSON has it: keys in camelCase, figures with as many digits as mean something."""
    return {
        to_camel(name): round(value, 6) if isinstance(value, float) else value for name, value in asdict(row).items()
    }


def view_document(view: View[BackendRow] | View[VipRow]) -> dict[str, object]:
    """All rows."""
    return {
        "seconds": round(view.seconds, 3),
        "rows": [row_document(row) for row in view.rows],
        "note": view.note,
    }


C = TypeVar("C", BackendCounts, VipCounts)


def _pairs(before: Iterable[C], after: Iterable[C]) -> Iterator[tuple[C | None, C]]:
    """All of the later answer, each with its counts in the earlier one."""
    earlier = {each.identity: each for each in before}
    for now in after:
        yield _comparable(earlier.get(now.identity), now), now


def _comparable(old: C | None, now: C) -> C | None:
    """The earlier counts, unless any of them is larger: then they are of something else that had this name."""
    if old is None:
        return None
    shrunk = any(
        getattr(old, name) > getattr(now, name)
        for name in ("packets", "bytes", "new_flows", "responses", "failures", "dropped")
        if hasattr(now, name)
    )
    return None if shrunk else old


class _Common(TypedDict):
    load_balancer: str
    port: str
    name: str
    state: str
    new_flows_per_second: float
    active_flows: int
    packets_per_second: float
    bits_per_second: float
    reason: str


def _common(old: _Counts | None, now: _Counts, seconds: float) -> _Common:
    return {
        "load_balancer": f"{now.load_balancer.namespace}/{now.load_balancer.name}",
        "port": now.load_balancer.port,
        "name": str(now.place),
        "state": now.state,
        "new_flows_per_second": _rate(old.new_flows if old else 0, now.new_flows, seconds),
        "active_flows": now.active_flows,
        "packets_per_second": _rate(old.packets if old else 0, now.packets, seconds),
        "bits_per_second": 8 * _rate(old.bytes if old else 0, now.bytes, seconds),
        "reason": now.reason,
    }


def _seconds(before: TopAnswer, after: TopAnswer) -> float:
    """Never 0: two answers of one moment have no rates."""
    return max(after.seconds - before.seconds, 1e-3)


def _rate(before: int, after: int, seconds: float) -> float:
    return max(0, after - before) / seconds


def _sorted(rows: Iterable[R], attribute: str) -> tuple[R, ...]:
    by_name = sorted(rows, key=lambda row: (row.load_balancer, row.port, row.name))
    if attribute == "name":
        return tuple(by_name)
    return tuple(sorted(by_name, key=lambda row: -(getattr(row, attribute) or 0)))


def _still(rows: Iterable[Row], answer: TopAnswer, seconds: float) -> str:
    """Why all rates are 0; empty when any is not."""
    if any(row.packets_per_second or row.new_flows_per_second for row in rows):
        return ""
    return answer.silent or f"no packet of a balanced flow in the last {seconds:.1f} s"
