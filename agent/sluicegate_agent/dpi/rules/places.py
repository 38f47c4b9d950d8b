"""Addresses and ports of a rule's header: any, single ones, ranges, lists, negation and variables."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_network

from sluicegate_agent.dpi.rules.errors import RuleError
from sluicegate_agent.dpi.rules.sets import LAST_ADDRESS, LAST_PORT, V4_FIRST, Ranges, address_number

_MAX_DEPTH = 16
_MAX_RANGES = 4096
_PORT = re.compile(r"(?P<low>[0-9]{1,5})?(?:(?P<colon>:)(?P<high>[0-9]{1,5})?)?", re.ASCII)

_Single = Callable[[str], Ranges]


class Places:
    """Reads addresses and ports. Variables are resolved once and kept: large rule sets name the same few."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self._known: dict[tuple[str, int], Ranges] = {}

    def addresses(self, text: str) -> Ranges:
        """The addresses that the text names. Raises RuleError."""
        return self._whole(text, LAST_ADDRESS, _address, "address")

    def ports(self, text: str) -> Ranges:
        """The ports that the text names. Raises RuleError."""
        return self._whole(text, LAST_PORT, _port, "port")

    def _whole(self, text: str, last: int, single: _Single, noun: str) -> Ranges:
        found = self._item(text, last, single, ())
        if not found:
            raise RuleError(f"{shortened(text)} leaves no {noun}: what it allows is also negated")
        if len(found.pairs) > _MAX_RANGES:
            raise RuleError(f"{shortened(text)} is more than {_MAX_RANGES} separate ranges of {noun}s")
        return found

    def _item(self, text: str, last: int, single: _Single, within: tuple[str, ...]) -> Ranges:
        text = text.strip()
        if text.startswith("!"):
            return ~self._item(text[1:], last, single, (*_not_too_deep(within), ""))
        if text.startswith("["):
            if not text.endswith("]"):
                raise RuleError(f"list {shortened(text)} has no closing bracket")
            return self._list(text[1:-1], last, single, (*_not_too_deep(within), ""))
        if text.startswith("$"):
            return self._variable(text[1:], last, single, within)
        return Ranges.everything(last) if text.lower() == "any" else single(text)

    def _list(self, text: str, last: int, single: _Single, within: tuple[str, ...]) -> Ranges:
        allowed: list[tuple[int, int]] = []
        refused: list[tuple[int, int]] = []
        positive = False
        for part in _split(text):
            if part.startswith("!"):
                refused.extend(self._item(part[1:], last, single, within).pairs)
            else:
                positive = True
                allowed.extend(self._item(part, last, single, within).pairs)
        base = Ranges.of(allowed, last) if positive else Ranges.everything(last)
        return base - Ranges.of(refused, last)

    def _variable(self, name: str, last: int, single: _Single, within: tuple[str, ...]) -> Ranges:
        key = (name, last)
        if key not in self._known:
            if name not in self._variables:
                raise RuleError(f"variable ${shortened(name)} has no value; give it one in spec.variables")
            if name in within:
                raise RuleError(f"variable ${shortened(name)} is defined by itself; end the circle in spec.variables")
            try:
                self._known[key] = self._item(self._variables[name], last, single, (*_not_too_deep(within), name))
            except RuleError as error:
                raise RuleError(f"in ${shortened(name)}: {error.message}") from None
        return self._known[key]


def shortened(text: str, limit: int = 60) -> str:
    """Text for a message, cut when it is long."""
    return text if len(text) <= limit else f"{text[:limit]}..."


def _not_too_deep(within: tuple[str, ...]) -> tuple[str, ...]:
    if len(within) >= _MAX_DEPTH:
        raise RuleError(f"lists, negations and variables nest deeper than {_MAX_DEPTH}")
    return within


def _split(text: str) -> list[str]:
    parts: list[str] = []
    depth = start = 0
    for at, character in enumerate(text):
        depth += (character == "[") - (character == "]")
        if depth < 0:
            raise RuleError(f"list [{shortened(text)}] closes a bracket that it did not open")
        if character == "," and depth == 0:
            parts.append(text[start:at].strip())
            start = at + 1
    parts.append(text[start:].strip())
    if depth:
        raise RuleError(f"list [{shortened(text)}] has no closing bracket")
    if not all(parts):
        raise RuleError(f"list [{shortened(text)}] has an empty entry")
    return parts


def _address(text: str) -> Ranges:
    try:
        if "-" in text:
            first, last = (ip_address(part.strip()) for part in text.split("-", 1))
            low, high = address_number(first), address_number(last)
            if first.version != last.version or low > high:
                raise RuleError(f"range {shortened(text)} ends before it begins")
            return Ranges.of([(low, high)], LAST_ADDRESS)
        network = ip_network(text, strict=False)
    except ValueError as error:
        if isinstance(error, RuleError):
            raise
        raise RuleError(
            f"{shortened(text)} is no address; write 192.0.2.1, 192.0.2.0/24, 2001:db8::/32, a list or a variable"
        ) from None
    base = V4_FIRST if network.version == 4 else 0
    low, high = int(network.network_address), int(network.broadcast_address)
    return Ranges.of([(base | low, base | high)], LAST_ADDRESS)


def _port(text: str) -> Ranges:
    parts = _PORT.fullmatch(text)
    if parts is None or not (parts["low"] or parts["high"]):
        raise RuleError(f"{shortened(text)} is no port; write 80, 8000:8080, 1024:, a list or a variable")
    low = int(parts["low"] or 0)
    high = int(parts["high"] or LAST_PORT) if parts["colon"] else low
    if not low <= high <= LAST_PORT:
        raise RuleError(f"{shortened(text)} is no range of ports from 0 to {LAST_PORT}")
    return Ranges.of([(low, high)], LAST_PORT)
