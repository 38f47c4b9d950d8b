"""Variables of signatures: the form of their values, which is Suricata's for addresses and ports in rules.

A value is one item, or a list of items and lists in brackets; "!" before any of them takes it out.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from sluicegate_api.cel import cel, validations
from sluicegate_api.common import PATTERN_WORDS, Violation

MAX_VARIABLES = 64
LONGEST_NAME = 64
DEEPEST_LIST = 8

NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"
VALUE_PATTERN = r"^[\[\]!$,.:/ A-Za-z0-9_-]+$"
PATTERN_WORDS[NAME_PATTERN] = (
    'must be the name of a variable such as HOME_NET: letters, digits and "_", not beginning with a digit, without "$"'
)
PATTERN_WORDS[VALUE_PATTERN] = (
    'must hold addresses, networks or ports, such as "[10.0.0.0/8,!10.9.0.0/16]" or "[80,8000:8999]"'
)

_TOKEN = re.compile(r"\s*([\[\],!]|[^\[\],!\s]+)")
_REFERENCE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
_PORTS = re.compile(r"(\d{0,5})(?::(\d{0,5}))?")


class _Kind(Enum):
    ANY = "anything"
    ADDRESSES = "addresses"
    PORTS = "ports"


def fault(value: str) -> str | None:
    """Why a value cannot be read; None when it can."""
    tokens = _TOKEN.findall(value)
    try:
        end, _ = _element(tokens, 0, 0)
    except _UnreadableError as error:
        return str(error)
    return None if end == len(tokens) else f'has "{tokens[end]}" after its end: put lists in brackets'


def references(value: str) -> frozenset[str]:
    """Names of the variables that a value refers to."""
    return frozenset(_REFERENCE.findall(value))


def cycles(variables: Mapping[str, str]) -> Iterator[Violation]:
    """Variables whose value leads back to themselves."""
    for name in variables:
        seen: set[str] = set()
        waiting = set(references(variables[name]))
        while waiting - seen:
            seen |= waiting
            waiting = {found for each in waiting for found in references(variables.get(each, ""))}
        if name in seen:
            yield Violation((name,), "leads back to itself")


class _UnreadableError(Exception):
    """Why a value cannot be read, as its text."""


def _element(tokens: list[str], start: int, depth: int) -> tuple[int, _Kind]:
    """Where the element that begins at a token ends, and what it holds."""
    while start < len(tokens) and tokens[start] == "!":
        start += 1
    if start == len(tokens):
        raise _UnreadableError("ends where an address, a port or a list is expected")
    if tokens[start] != "[":
        return start + 1, _item(tokens[start])
    if depth == DEEPEST_LIST:
        raise _UnreadableError(f"has lists nested more than {DEEPEST_LIST} deep")
    kinds: set[_Kind] = set()
    end = start
    while end == start or tokens[end] == ",":
        end, kind = _element(tokens, end + 1, depth + 1)
        kinds |= {kind} - {_Kind.ANY}
        if end == len(tokens):
            raise _UnreadableError('has a list without its "]"')
    if tokens[end] != "]":
        raise _UnreadableError(f'has "{tokens[end]}" where "," or "]" is expected')
    if len(kinds) > 1:
        raise _UnreadableError("mixes addresses and ports")
    return end + 1, next(iter(kinds), _Kind.ANY)


def _item(text: str) -> _Kind:
    if text == "any" or _REFERENCE.fullmatch(text):
        return _Kind.ANY
    if _is_network(text):
        return _Kind.ADDRESSES
    ports = _PORTS.fullmatch(text)
    if ports is not None and text != ":":
        first = int(ports[1] or 0)
        last = first if ports[2] is None else int(ports[2] or 65535)
        if first <= last <= 65535:
            return _Kind.PORTS
    raise _UnreadableError(f'has "{text}", which is no address, network, port, range of ports, variable or "any"')


def _is_network(text: str) -> bool:
    first, dash, last = text.partition("-")
    try:
        if not dash:
            ipaddress.ip_network(text, strict=False)
            return True
        ends = ipaddress.ip_address(first), ipaddress.ip_address(last)
    except ValueError:
        return False
    return ends[0].version == ends[1].version and int(ends[0]) <= int(ends[1])


def _readable(value: str) -> str:
    reason = fault(value)
    if reason is not None:
        raise PydanticCustomError("variable", "{reason}", {"reason": reason})
    return value


VariableName = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_NAME, pattern=NAME_PATTERN)]
VariableValue = Annotated[
    str,
    StringConstraints(min_length=1, max_length=4096, pattern=VALUE_PATTERN),
    AfterValidator(_readable),
]
Variables = Annotated[
    Mapping[VariableName, VariableValue],
    Field(
        max_length=MAX_VARIABLES,
        json_schema_extra=validations(
            cel(
                f"self.all(name, size(name) <= {LONGEST_NAME} && name.matches('{NAME_PATTERN}'))",
                'names of variables consist of letters, digits and "_", and do not begin with a digit',
            )
        ),
    ),
]
