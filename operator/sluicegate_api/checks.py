"""How a node learns about its backends: whether they are alive, and how much they can take."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from sluicegate_api.addresses import forbidden
from sluicegate_api.cel import cel, validations
from sluicegate_api.common import PATTERN_WORDS, ApiModel, PortNumber, Violation, repeated

HTTP_PATH_PATTERN = r"^/[!-~]*$"
HOST_PATTERN = r"^[A-Za-z0-9]([-A-Za-z0-9.:]*[A-Za-z0-9])?$"
URL_PATTERN = r"^https?://[!-~]+$"
PATTERN_WORDS[HTTP_PATH_PATTERN] = 'must start with "/" and hold no spaces'
PATTERN_WORDS[HOST_PATTERN] = "must be a host name"
PATTERN_WORDS[URL_PATTERN] = 'must start with "http://" or "https://" and hold no spaces'

DEFAULT_PATH = "/"
DEFAULT_STATUSES = (200,)

HttpPath = Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=HTTP_PATH_PATTERN)]
Seconds = Annotated[int, Field(strict=True, ge=1, le=3600)]
Repetitions = Annotated[int, Field(strict=True, ge=1, le=100)]


def _usable_url(url: str) -> str:
    """The URL, if it can be asked. What is wrong is said without repeating the URL: it may hold a password."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _url_problem("has no usable host or port") from None
    if "@" in parts.netloc:
        raise _url_problem('holds credentials (before "@"): credentials are not supported here yet')
    if not host or port == 0:
        raise _url_problem("has port 0" if host else "has no host")
    if parts.query or parts.fragment:
        raise _url_problem('must be the base URL, without "?" and "#"')
    try:
        words = forbidden(ipaddress.ip_address(host))
    except ValueError:
        words = "this node itself" if host == "localhost" or host.endswith(".localhost") else None
    if words:
        raise _url_problem(f"{host} is {words}, which cannot be used here")
    return url


def _url_problem(reason: str) -> PydanticCustomError:
    return PydanticCustomError("url", "{reason}", {"reason": reason})


Url = Annotated[
    str,
    StringConstraints(max_length=2048, pattern=URL_PATTERN),
    AfterValidator(_usable_url),
    Field(
        json_schema_extra=validations(
            cel(
                "isURL(self) && [url(self).getHostname()].all(host, host != '' && host != 'localhost'"
                " && !host.endsWith('.localhost') && (!isIP(host) || ip(host).isGlobalUnicast()))",
                "must name a host, and not this node itself",
            ),
            cel("!self.matches('^[^/]*//[^/?#]*@')", "credentials are not supported here yet"),
            cel("!self.matches('[?#]')", 'must be the base URL, without "?" and "#"'),
        )
    ),
]


class HealthCheckType(StrEnum):
    """How a backend is probed."""

    TCP = "TCP"
    HTTP = "HTTP"
    NONE = "None"


class HealthCheck(ApiModel):
    """How backends are probed. A backend changes its state after `rise` or `fall` equal results in a row."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "(has(self.timeoutSeconds) ? self.timeoutSeconds : 1)"
                " <= (has(self.intervalSeconds) ? self.intervalSeconds : 2)",
                "timeoutSeconds (default 1) must not be longer than intervalSeconds (default 2)",
            ),
            cel(
                "(has(self.type) && self.type == 'HTTP')"
                " || !(has(self.path) || has(self.host) || has(self.expectedStatuses))",
                "path, host and expectedStatuses need type HTTP",
            ),
            cel(
                "!(has(self.type) && self.type == 'None') || !(has(self.port) || has(self.intervalSeconds)"
                " || has(self.timeoutSeconds) || has(self.rise) || has(self.fall))",
                "type None takes no other field",
            ),
        )
    )

    type: HealthCheckType = HealthCheckType.TCP
    """TCP (default): the port accepts a connection. HTTP: a request is answered as expected. None: not probed."""
    port: PortNumber | None = None
    """The port to probe; default the backend's own. UDP ports are probed only when it is given."""
    path: HttpPath | None = None
    """HTTP only: what to request; default "/"."""
    host: Annotated[str, StringConstraints(max_length=253, pattern=HOST_PATTERN)] | None = None
    """HTTP only: the Host header; default the probed address and port."""
    expected_statuses: (
        Annotated[
            tuple[Annotated[int, Field(strict=True, ge=100, le=599)], ...],
            Field(min_length=1, max_length=64, json_schema_extra={"x-kubernetes-list-type": "set"}),
        ]
        | None
    ) = None
    """HTTP only: status codes of a healthy backend; default 200."""
    interval_seconds: Seconds = 2
    """Seconds between two probes of a backend (default 2)."""
    timeout_seconds: Seconds = 1
    """Seconds after which a probe without answer has failed (default 1); not longer than intervalSeconds."""
    rise: Repetitions = 2
    """Good results in a row that bring a backend back (default 2)."""
    fall: Repetitions = 3
    """Bad results in a row that take a backend out (default 3)."""

    @property
    def effective_path(self) -> str:
        """What an HTTP check requests."""
        return self.path or DEFAULT_PATH

    @property
    def effective_statuses(self) -> frozenset[int]:
        """The status codes that an HTTP check takes for healthy."""
        return frozenset(self.expected_statuses or DEFAULT_STATUSES)

    def violations(self) -> Iterator[Violation]:
        """A probe ends before the next one starts; fields fit the type."""
        if self.timeout_seconds > self.interval_seconds:
            yield Violation(
                ("timeoutSeconds",),
                f"{self.timeout_seconds} is longer than intervalSeconds, which is {self.interval_seconds}",
                reads=(("intervalSeconds",),),
            )
        http_only = {"path": self.path, "host": self.host, "expectedStatuses": self.expected_statuses}
        if self.type is not HealthCheckType.HTTP:
            for name in (name for name, value in http_only.items() if value is not None):
                yield Violation((name,), f"needs type HTTP, but the type is {self.type}", reads=(("type",),))
        if self.type is HealthCheckType.NONE:
            for name in ("port", "interval_seconds", "timeout_seconds", "rise", "fall"):
                if name in self.model_fields_set:
                    alias = type(self).model_fields[name].alias or name
                    yield Violation((alias,), "has no meaning with type None", reads=(("type",),))
        for index, first, status in repeated(self.expected_statuses or ()):
            yield Violation(("expectedStatuses", index), f"{status} is already listed in expectedStatuses[{first}]")


class WeightSource(StrEnum):
    """Where measured weights come from."""

    NONE = "None"
    AGENT_CHECK = "AgentCheck"
    HTTP = "HTTP"
    PROMETHEUS = "Prometheus"
    POD_METRICS = "PodMetrics"
    PASSIVE = "Passive"


class AgentCheck(ApiModel):
    """A port of the backend that says how it wants to be used, in HAProxy's agent-check grammar: 75%, drain, up ..."""

    port: PortNumber
    """The agent's port."""


class HttpLoad(ApiModel):
    """A URL of the backend that answers with its load as JSON, in ORCA's names: application_utilization,
    cpu_utilization, rps_fractional, eps."""

    port: PortNumber
    """The port to ask."""
    path: HttpPath | None = None
    """What to request; default "/"."""


class PrometheusQuery(ApiModel):
    """A query whose result has one sample per backend: its utilisation, 0 idle and 1 full."""

    url: Url
    """Prometheus' base URL. Credentials are not supported here yet."""
    query: Annotated[str, StringConstraints(min_length=1, max_length=4096)]
    """A PromQL expression. The label instance, address, ip or pod_ip of a sample holds the backend's address."""


_SOURCE_FIELDS = {
    WeightSource.AGENT_CHECK: "agentCheck",
    WeightSource.HTTP: "http",
    WeightSource.PROMETHEUS: "prometheus",
}


class DynamicWeights(ApiModel):
    """How weights follow the measured load of the backends."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            *(
                cel(
                    f"has(self.{field}) == (has(self.type) && self.type == '{source}')",
                    f"{field} is required with type {source}, and has no meaning with another type",
                )
                for source, field in _SOURCE_FIELDS.items()
            ),
            cel(
                "(has(self.staleAfterSeconds) ? self.staleAfterSeconds : 10)"
                " > (has(self.intervalSeconds) ? self.intervalSeconds : 1)",
                "staleAfterSeconds (default 10) must be longer than intervalSeconds (default 1)",
            ),
        )
    )

    type: WeightSource = WeightSource.NONE
    """None (default): the configured weights hold. Otherwise where the load comes from. Passive needs nothing from the
    backends but that their replies come through the node, so it is refused with forwarding mode DirectReturn."""
    agent_check: AgentCheck | None = None
    """With type AgentCheck: where the agent listens."""
    http: HttpLoad | None = None
    """With type HTTP: what to request from the backend."""
    prometheus: PrometheusQuery | None = None
    """With type Prometheus: where to ask for what."""
    interval_seconds: Seconds = 1
    """Seconds between two measurements (default 1)."""
    stale_after_seconds: Seconds = 10
    """Seconds after which an old measurement no longer counts (default 10)."""

    def violations(self) -> Iterator[Violation]:
        """The field of the type is there, and no other."""
        given = {"agentCheck": self.agent_check, "http": self.http, "prometheus": self.prometheus}
        for source, name in _SOURCE_FIELDS.items():
            if self.type is source and given[name] is None:
                yield Violation((name,), f"is required with type {source}", reads=(("type",),))
            if self.type is not source and given[name] is not None:
                yield Violation((name,), f"needs type {source}, but the type is {self.type}", reads=(("type",),))
        if self.stale_after_seconds <= self.interval_seconds:
            yield Violation(
                ("staleAfterSeconds",),
                f"{self.stale_after_seconds} must be longer than intervalSeconds, which is {self.interval_seconds}",
                reads=(("intervalSeconds",),),
            )
