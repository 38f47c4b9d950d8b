"""Names of network interfaces in resources, alone or by a glob."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import Field, StringConstraints

from sluicegate_api.cel import cel, distinct, validations
from sluicegate_api.common import PATTERN_WORDS, Violation, repeated

LONGEST_INTERFACE_NAME = 15  # IFNAMSIZ without its terminating zero
INTERFACE_PATTERN = r"^[^\s/:]+$"
PATTERN_WORDS[INTERFACE_PATTERN] = 'must be an interface name or a glob such as "ens*", without spaces, "/" and ":"'

InterfaceGlob = Annotated[
    str,
    StringConstraints(min_length=1, max_length=32, pattern=INTERFACE_PATTERN),
    Field(
        json_schema_extra=validations(
            cel(
                f"size(self) <= {LONGEST_INTERFACE_NAME} || self.matches('[*?[]')",
                f"must be a glob or have at most {LONGEST_INTERFACE_NAME} characters",
            )
        )
    ),
]

InterfaceGlobs = Annotated[
    tuple[InterfaceGlob, ...],
    Field(
        min_length=1,
        max_length=64,
        json_schema_extra=validations(distinct("item", "an interface is listed twice")),
    ),
]


def interface_violations(names: Sequence[str]) -> Iterator[Violation]:
    """Names that no interface can have, and those that are listed twice, under a field ``interfaces``."""
    for index, name in enumerate(names):
        if len(name) > LONGEST_INTERFACE_NAME and not set("*?[") & set(name):
            yield Violation(
                ("interfaces", index), f'"{name}" is longer than the {LONGEST_INTERFACE_NAME} letters of a name'
            )
    for index, first, name in repeated(names):
        yield Violation(("interfaces", index), f'"{name}" is already listed in interfaces[{first}]')
