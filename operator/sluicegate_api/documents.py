"""Texts of resources, YAML or JSON, as plain values: what the cluster would read, and stricter where people slip.

A text is split at its ``---`` lines first, so that a document that cannot be read does not hide the others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import yaml

from sluicegate_api.common import FieldProblem, Location, format_path

Value = None | bool | int | float | str | list["Value"] | dict[str, "Value"]

DEEPEST_DOCUMENT = 50
"""Levels of nesting: a few more than any resource has. libyaml's tree builder overflows its stack without a limit."""
LARGEST_DOCUMENT = 200_000
"""Values in one document after aliases are followed: keeps a small text from growing without end."""

TOO_DEEP = f"nested more than {DEEPEST_DOCUMENT} levels deep"

_SEPARATOR = re.compile(r"^---(?=\s|$)", re.MULTILINE)
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Document:
    """One document: its place in the text (from 1), its value, and what is wrong with its form.

    The value is None when the document could not be read at all.
    """

    index: int
    line: int
    value: Value
    problems: tuple[FieldProblem, ...] = ()


def parse_documents(text: str) -> Iterator[Document]:
    """All documents of a text that hold something."""
    text = text.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
    starts = [0, *(match.start() for match in _SEPARATOR.finditer(text))]
    index = 0
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        piece = text[start:end]
        if all(not row.strip() or row.startswith(("#", "%")) for row in piece.splitlines()):
            continue  # comments, or YAML's directives before a first "---"
        line = text.count("\n", 0, start)
        for document in _parse_piece(piece, line):
            index += 1
            yield Document(index, document.line, document.value, document.problems)


def _parse_piece(piece: str, line: int) -> Iterator[Document]:
    if piece.removeprefix("---").lstrip().startswith("{"):
        reader = _Reader(line)
        try:
            value = json.loads(
                piece.removeprefix("---"), object_pairs_hook=reader.pairs, parse_constant=_refuse_constant
            )
        except (ValueError, RecursionError):
            pass  # a flow mapping of YAML looks like JSON at first, and YAML's errors name line and column
        else:
            if _is_too_deep(value):
                value, reader.problems = None, [FieldProblem("", TOO_DEEP)]
            yield Document(0, line + 1, value, tuple(reader.problems))
            return
    try:
        _check_depth(piece)
        loader = _Loader(piece)
        try:
            while loader.check_node():
                node = loader.get_node()
                if node is None:
                    break
                reader = _Reader(line)
                reader.measure(node)
                value = reader.value(node, ())
                if value is not None or reader.problems:
                    yield Document(0, line + node.start_mark.line + 1, value, tuple(reader.problems))
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        yield Document(0, line + 1, None, (FieldProblem("", _syntax(error, line)),))


def _check_depth(piece: str) -> None:
    depth = 0
    for event in yaml.parse(piece, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST_DOCUMENT:
                raise yaml.YAMLError(TOO_DEEP)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _is_too_deep(value: Value) -> bool:
    layer = [value]
    for _ in range(DEEPEST_DOCUMENT):
        layer = [item for part in layer for item in _items(part)]
    return bool(layer)


def _items(value: Value) -> Iterable[Value]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _syntax(error: yaml.YAMLError, line: int) -> str:
    if not isinstance(error, yaml.MarkedYAMLError):
        return f"cannot be read: {' '.join(str(error).split())}"
    mark = error.problem_mark or error.context_mark
    place = f"line {line + mark.line + 1}, column {mark.column + 1}: " if mark else ""
    words = ", ".join(part for part in (error.context, error.problem) if part)
    return f"{place}cannot be read: {words}"


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


class _Loader(yaml.CSafeLoader):
    """YAML 1.1 as Kubernetes reads it: without dates, and without numbers to base 60 (``1:2:3:4:5:6:7:8``)."""


_INTEGER = re.compile(r"^[-+]?(?:0b[01_]+|0[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)$")
_FLOAT = re.compile(r"^[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9_]+(?:[eE][-+]?[0-9]+)?)$")

_Loader.yaml_implicit_resolvers = {
    first: [(tag, expression) for tag, expression in resolvers if tag.removeprefix(_TAG) in {"bool", "null", "merge"}]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(f"{_TAG}int", _INTEGER, list("-+0123456789"))
_Loader.add_implicit_resolver(f"{_TAG}float", _FLOAT, list("-+0123456789."))


@dataclass(slots=True)
class _Reader:
    """Turns nodes into values, and notes what is wrong with their form."""

    line: int
    problems: list[FieldProblem] = field(default_factory=list)
    sizes: dict[int, int] = field(default_factory=dict)

    def measure(self, node: yaml.Node) -> int:
        """Number of values under a node, aliases followed; raises YAMLError when they are too many or endless."""
        known = self.sizes.get(id(node))
        if known is not None:
            if known == 0:
                raise _error(node, "an alias refers to a value that holds it")
            return known
        self.sizes[id(node)] = 0
        size = 1
        if isinstance(node, yaml.MappingNode):
            size += sum(self.measure(key) + self.measure(value) for key, value in node.value)
        elif isinstance(node, yaml.SequenceNode):
            size += sum(self.measure(item) for item in node.value)
        if size > LARGEST_DOCUMENT:
            raise _error(node, f"holds more than {LARGEST_DOCUMENT} values")
        self.sizes[id(node)] = size
        return size

    def value(self, node: yaml.Node, location: Location) -> Value:
        """The plain value of a node."""
        if isinstance(node, yaml.CollectionNode) and node.tag not in {f"{_TAG}map", f"{_TAG}seq"}:
            self._note(location, f"has the tag {node.tag}, which is not understood here")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, location)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*location, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, location)

    def _mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, Value]:
        result: dict[str, Value] = {}
        merged: dict[str, Value] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == f"{_TAG}merge":
                merged = {**self._merge(value_node, location), **merged}
                continue
            key = self._key(key_node, location)
            if key is None:
                continue
            here = self.line + key_node.start_mark.line + 1
            if key in result:
                self._note((*location, key), f"is given twice, in lines {lines[key]} and {here}")
                continue
            lines[key] = here
            result[key] = self.value(value_node, (*location, key))
        return {**merged, **result}

    def _merge(self, node: yaml.Node, location: Location) -> dict[str, Value]:
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Value] = {}
        for source in sources:
            if isinstance(source, yaml.MappingNode):
                merged = {**self._mapping(source, location), **merged}
            else:
                self._note((*location, "<<"), "must refer to an object")
        return merged

    def _key(self, node: yaml.Node, location: Location) -> str | None:
        key = self.value(node, location) if isinstance(node, yaml.ScalarNode) else None
        if isinstance(key, str):
            return key
        line = self.line + node.start_mark.line + 1
        self._note(location, f"line {line}: the name of a field must be text: put it in quotes")
        return None

    def _scalar(self, node: yaml.Node, location: Location) -> Value:
        text: str = node.value
        tag = node.tag.removeprefix(_TAG)
        if tag == "str":
            return text
        if tag == "null":
            return None
        try:
            if tag == "bool":
                return bool(yaml.SafeLoader.bool_values[text.lower()])
            if tag == "int":
                return _integer(text)
            if tag == "float":
                return float(text.replace("_", ""))
        except (KeyError, ValueError):
            pass
        self._note(location, f'"{text}" has the tag {node.tag}, which is not understood here')
        return text

    def pairs(self, pairs: list[tuple[str, Value]]) -> dict[str, Value]:
        """An object of JSON, for json.loads."""
        result: dict[str, Value] = {}
        for key, value in pairs:
            if key in result:
                self._note((), f'the field "{key}" is given twice in one object')
            else:
                result[key] = value
        return result

    def _note(self, location: Location, reason: str) -> None:
        self.problems.append(FieldProblem(format_path(location), reason))


def _integer(text: str) -> int:
    digits = text.replace("_", "").lower()
    sign = -1 if digits.startswith("-") else 1
    digits = digits.lstrip("+-")
    if digits.startswith("0") and digits.isdigit():
        return sign * int(digits, 8)
    return sign * int(digits, 0)


def _error(node: yaml.Node, problem: str) -> yaml.YAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
