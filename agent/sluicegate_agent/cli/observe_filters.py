"""Which events ``sluicegate observe`` shows."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from sluicegate_agent.datapath.model import IPNetwork

Event = Mapping[str, Any]
_Test = Callable[[Event], bool]
_Words = Mapping[str, Sequence[str] | None]


class FilterError(ValueError):
    """Words that choose nothing. The message says what to write."""


@dataclass(frozen=True, slots=True)
class Filters:
    """All tests must agree. ``sniffers``: the names asked for, which should exist."""

    tests: tuple[_Test, ...]
    sniffers: frozenset[str]

    @classmethod
    def parse(cls, wanted: _Words, unwanted: _Words) -> Self:
        """From the values of each option, and of each option behind ``--not``. Raises FilterError."""
        tests = [_any_of(name, words) for name, words in wanted.items() if words]
        tests += [_none_of(_any_of(name, words)) for name, words in unwanted.items() if words]
        return cls(tuple(tests), frozenset([*(wanted.get("sniffer") or ()), *(unwanted.get("sniffer") or ())]))

    def fitting(self, line: bytes) -> Event | None:
        """The event, if it fits. What cannot be read does not."""
        try:
            event = json.loads(line)
        except ValueError:
            return None
        return event if isinstance(event, dict) and all(test(event) for test in self.tests) else None


def _none_of(test: _Test) -> _Test:
    return lambda event: not test(event)


def _any_of(name: str, words: Sequence[str]) -> _Test:
    tests = [_TESTS[name](word) for word in words]
    return lambda event: any(test(event) for test in tests)


def _protocol(word: str) -> _Test:
    wanted = word.lower()
    if not wanted:
        raise FilterError("--protocol: write a name, such as tcp, tls or DNS")

    def test(event: Event) -> bool:
        label = str((event.get("ndpi") or {}).get("proto", "")).lower()
        names = {str(event.get("proto", "")).lower(), str(event.get("app_proto", "")).lower(), label}
        return wanted in names | set(label.split("."))

    return test


def _ip(word: str) -> _Test:
    try:
        network: IPNetwork = ipaddress.ip_network(word, strict=False)
    except ValueError:
        raise FilterError(
            f"--ip: {word!r} is neither an address nor a network: write 10.1.0.2 or 10.1.0.0/16"
        ) from None

    def test(event: Event) -> bool:
        return any(ipaddress.ip_address(event[end]) in network for end in ("src_ip", "dest_ip") if end in event)

    return test


def _port(word: str) -> _Test:
    if not (word.isascii() and word.isdigit() and int(word) <= 65_535):
        raise FilterError(f"--port: {word!r} is no number from 0 to 65535")
    wanted = int(word)
    return lambda event: wanted in {event.get("src_port"), event.get("dest_port")}


def _sniffer(word: str) -> _Test:
    if "/" in word:
        return lambda event: event.get("vnf") == word
    return lambda event: str(event.get("vnf", "")).rpartition("/")[2] == word


_TESTS: Mapping[str, Callable[[str], _Test]] = {
    "protocol": _protocol,
    "ip": _ip,
    "port": _port,
    "sniffer": _sniffer,
}
