"""Paths of files in resources."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from sluicegate_api.cel import cel, validations
from sluicegate_api.common import PATTERN_WORDS

FILE_PATH_PATTERN = r"^[^\x00-\x1f\x7f]+$"
ABSOLUTE_PATH_PATTERN = r"^/[^\x00-\x1f\x7f]*$"
PATTERN_WORDS[FILE_PATH_PATTERN] = "must be a path, without control characters"
PATTERN_WORDS[ABSOLUTE_PATH_PATTERN] = 'must be a path that starts with "/", without control characters'

LONGEST_SOCKET_PATH = 107  # sun_path of unix(7) without its terminating zero


def _problem(reason: str) -> PydanticCustomError:
    return PydanticCustomError("path", "{reason}", {"reason": reason})


def _without_parents(path: str) -> str:
    if ".." in path.split("/"):
        raise _problem(f'"{path}" has ".." in it: write the path without')
    return path


FilePath = Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=FILE_PATH_PATTERN)]
"""A file, absolute or relative to the one that names it."""

AbsolutePath = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1024, pattern=ABSOLUTE_PATH_PATTERN),
    AfterValidator(_without_parents),
    Field(json_schema_extra=validations(cel("!self.matches('(^|/)[.][.](/|$)')", 'must not have ".." in it'))),
]
"""A place on the node."""
