"""Ports of a load balancer and where they lead."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated

from pydantic import PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from sluicegate_api.common import LABEL_PATTERN, ApiModel, DnsLabel, PortNumber

_PORT_NAME = re.compile(LABEL_PATTERN)


class Protocol(StrEnum):
    """Transport protocol of a port."""

    TCP = "TCP"
    UDP = "UDP"


def _parse_target_port(value: object) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool):
        if 1 <= value <= 65535:
            return value
        raise PydanticCustomError("target_port", "{reason}", {"reason": f"must be between 1 and 65535, is {value}"})
    if isinstance(value, str) and value.isdigit():
        raise PydanticCustomError("target_port", "{reason}", {"reason": f"write the number {value} without quotes"})
    if isinstance(value, str) and 1 <= len(value) <= 63 and _PORT_NAME.fullmatch(value):
        return value
    raise PydanticCustomError("target_port", "{reason}", {"reason": "must be a port number or the name of a port"})


TargetPort = Annotated[
    int | str,
    PlainValidator(_parse_target_port),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "minimum": 1,
            "maximum": 65535,
            "minLength": 1,
            "maxLength": 63,
            "pattern": LABEL_PATTERN,
        }
    ),
]


class Port(ApiModel):
    """One port on which the addresses take traffic."""

    name: DnsLabel | None = None
    """Name of the port, unique within ports."""
    protocol: Protocol = Protocol.TCP
    """TCP (default) or UDP."""
    port: PortNumber
    """The port that clients connect to."""
    target_port: TargetPort | None = None
    """The backends' port; default the same as port. A number with static backends; a container port's number or name
    with podSelector; the Service's port, number or name, with serviceRef."""

    @property
    def label(self) -> str:
        """The port's name, else such as ``TCP/80``: unique within its load balancer."""
        return self.name or f"{self.protocol}/{self.port}"

    @property
    def effective_target_port(self) -> int | str:
        """targetPort, else port."""
        return self.port if self.target_port is None else self.target_port
