"""What the agent can be told from outside: flags, then ``SLUICEGATE_*`` variables, then these defaults."""

from __future__ import annotations

import os
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, NamedTuple, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX = "SLUICEGATE_"


class SettingsError(Exception):
    """A flag or variable cannot be used. The message names it."""


class ListenAddress(NamedTuple):
    """Where the metrics endpoint listens; port 0 lets the kernel choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class PortRange(NamedTuple):
    """First and last port, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


class LogFormat(StrEnum):
    """How log lines are written; auto is text on a terminal and JSON lines elsewhere."""

    AUTO = "auto"
    TEXT = "text"
    JSON = "json"


class TcHook(StrEnum):
    """How tc programs are attached; auto is tcx where the kernel has it."""

    AUTO = "auto"
    CLSACT = "clsact"


def _listen_address(value: object) -> object:
    if not isinstance(value, str):
        return value
    host, separator, port = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not port.isdecimal() or int(port) > 65535:
        raise ValueError("wants ADDRESS:PORT, for instance 127.0.0.1:9431 or [::1]:9431")
    try:
        ip_address(host)
    except ValueError as error:
        raise ValueError(f"{host!r} is no IP address; wants ADDRESS:PORT, for instance 127.0.0.1:9431") from error
    return ListenAddress(host, int(port))


def _port_range(value: object) -> object:
    if not isinstance(value, str):
        return value
    first, _, last = value.partition("-")
    if not (first.isdecimal() and last.isdecimal()):
        raise ValueError("wants FIRST-LAST, for instance 1024-29999")
    return PortRange(int(first), int(last))


def _directory(value: object) -> object:
    return None if value == "" else value


class AgentSettings(BaseSettings):
    """Settings of one agent. Sizes are numbers of entries; the kernel allocates most maps in full when they are made.

    ``sources`` are networks in all ``allowedSources`` together and ``affinities`` clients that keep their backend, each
    per family. ``half_open_limit`` is how many half-open TCP flows of one service get entries.
    ``metrics_backends`` is how many backends have metrics of their own: about 90 series each, which the default makes a
    second of CPU time and 4 MB per scrape. ``program_statistics`` lets the kernel measure how long programs run, which
    costs every packet two clock reads. ``sniffed_flows`` are per family; ``dpi_workers`` 0 is one for every four CPUs,
    and ``dpi_ring_bytes`` is the memory between the kernel and each of them.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    netns: str | None = Field(default=None, pattern=r"^[^./\s][^/\s]*$", max_length=255)
    state_dir: Path = Path("/var/lib/sluicegate")
    cache_dir: Annotated[Path | None, BeforeValidator(_directory)] = Path("/var/cache/sluicegate/programs")
    metrics: Annotated[ListenAddress, NoDecode, BeforeValidator(_listen_address)] = ListenAddress("127.0.0.1", 9431)
    nat_ports: Annotated[PortRange, NoDecode, BeforeValidator(_port_range)] = PortRange(1024, 29999)
    flows: int = Field(default=131_072, ge=1024, le=16_777_216)
    nat_entries: int = Field(default=131_072, ge=1024, le=16_777_216)
    backends: int = Field(default=16_384, ge=16, le=65_535)
    sources: int = Field(default=16_384, ge=64, le=1_048_576)
    affinities: int = Field(default=65_536, ge=1024, le=16_777_216)
    half_open_limit: int = Field(default=16_384, ge=1, le=16_777_216)
    sniffed_flows: int = Field(default=65_536, ge=64, le=4_194_304)
    dpi_workers: int = Field(default=0, ge=0, le=64)
    dpi_ring_bytes: int = Field(default=16_777_216, ge=65_536, le=1_073_741_824)
    program_statistics: bool = False
    metrics_backends: int = Field(default=10_000, ge=0, le=65_535)
    tc: TcHook = TcHook.AUTO
    log_format: LogFormat = LogFormat.AUTO
    verbose: bool = False

    @model_validator(mode="after")
    def _nat_ports_are_a_range(self) -> Self:
        first, last = self.nat_ports
        if not 1 <= first <= last <= 65535:
            raise ValueError("nat_ports: the first port must not be above the last, both within 1-65535")
        return self

    @model_validator(mode="after")
    def _rings_are_powers_of_two(self) -> Self:
        if self.dpi_ring_bytes & (self.dpi_ring_bytes - 1):
            below = 1 << (self.dpi_ring_bytes.bit_length() - 1)
            raise ValueError(f"dpi_ring_bytes: a ring's size is a power of two, such as {below} or {2 * below}")
        return self

    @property
    def worker_count(self) -> int:
        """Worker processes of the sniffer's engine."""
        return self.dpi_workers or max(1, (os.cpu_count() or 1) // 4)

    @property
    def scope(self) -> str:
        """Name of the control socket and the lock: the namespace, or "host" when none was named."""
        return self.netns or "host"


def load_settings(**flags: object) -> AgentSettings:
    """Settings from the given flags (None means not given), the environment and the defaults."""
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return AgentSettings(**given)  # type: ignore[arg-type]  # pydantic checks the values
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(problem["loc"], problem["msg"]) for problem in error.errors())) from None


def _explain(location: tuple[int | str, ...], message: str) -> str:
    text = message.removeprefix("Value error, ")
    if not location:
        return text
    name = str(location[0])
    return f"--{name.replace('_', '-')} ({PREFIX}{name.upper()}): {text}"
