"""log.md: what the agent writes to its log, read from its sources."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

from sluicegate_agent.reference.markdown import code, table
from sluicegate_agent.reference.markdown import page as whole

_INTRODUCTION = """
The agent logs to stderr: text on a terminal, one JSON object per line elsewhere (`--log-format`), with `time`, `level`,
`logger` and `message`. It logs what changes, never what stays the same. `…` stands for a name, a number or an error of
the kernel.
"""

_PACKAGE = Path(__file__).resolve().parent.parent
_NOT_THE_AGENT = frozenset({"cli", "lab", "reference"})
_LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "exception": "error"}
_NARRATION = "reports/narrate"
_FIELD = re.compile(r"%[-0-9.]*[a-z]")
_GAP = "…"
_GAPS = re.compile(f"{_GAP}+")

_Expressions = Mapping[str, Sequence[ast.expr]]


class Message(NamedTuple):
    """One kind of line."""

    level: str
    text: str
    source: str


def page() -> str:
    """The text."""
    found = sorted(set(messages()))
    transitions = [each for each in found if each.source.startswith(_NARRATION)]
    others = [each for each in found if not each.source.startswith(_NARRATION)]
    return whole(
        "Log",
        _INTRODUCTION,
        "## Events",
        "Transitions of configuration, interfaces, VIPs and backends, all at level info:",
        table(("message",), ((code(each.text),) for each in transitions)),
        "## Other messages",
        table(("level", "message", "from"), ((each.level, code(each.text), code(each.source)) for each in others)),
    )


def messages() -> Iterator[Message]:
    """All messages in the agent's sources. Those that merely pass on a whole text are left out."""
    trees = {
        path.relative_to(_PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(_PACKAGE.rglob("*.py"))
        if path.relative_to(_PACKAGE).parts[0] not in _NOT_THE_AGENT
    }
    makers = {
        name: made
        for source, tree in trees.items()
        if source.startswith(_NARRATION)
        for name, made in _text_makers(tree).items()
    }
    for source, tree in trees.items():
        found = _narrated(tree, makers) if source.startswith(_NARRATION) else _logged(tree)
        yield from (Message(level, text, source) for level, text in found if text.strip(f"{_GAP} :"))


def _logged(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id in {"log", "_log", "logger"}
            and node.func.attr in _LEVELS
            and node.args
        ):
            for text in _texts(node.args[0], {}):
                yield _LEVELS[node.func.attr], _FIELD.sub(_GAP, text)


def _text_makers(tree: ast.Module) -> _Expressions:
    """Functions that do nothing but make a text."""
    return {
        function.name: [body.value]
        for function in tree.body
        if isinstance(function, ast.FunctionDef)
        and isinstance(body := function.body[-1], ast.Return)
        and isinstance(body.value, ast.JoinedStr)
    }


def _narrated(tree: ast.Module, makers: _Expressions) -> Iterator[tuple[str, str]]:
    """Texts that the functions of the module yield: alone, first in a tuple, or from a generator."""
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        known = {**makers, **_assigned(function)}
        for node in ast.walk(function):
            yielded = None
            if isinstance(node, ast.Yield):
                yielded = node.value.elts[0] if isinstance(node.value, ast.Tuple) else node.value
            elif isinstance(node, ast.YieldFrom) and isinstance(node.value, ast.GeneratorExp):
                yielded = node.value.elt
            if yielded is not None:
                yield from (("info", text) for text in _texts(yielded, known))


def _assigned(function: ast.FunctionDef) -> _Expressions:
    """What the function's variables are set to."""
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, []).append(node.value)
    return found


def _texts(node: ast.expr, known: _Expressions) -> Iterator[str]:
    """The texts that an expression can become, with gaps for what is only known when it runs.

    ``known`` are variables and functions with the expressions that they stand for.
    """
    match node:
        case ast.Constant():
            yield str(node.value)
        case ast.JoinedStr():
            yield from _joined(node.values, known)
        case ast.BinOp(op=ast.Add()):
            yield from _joined([node.left, node.right], known)
        case ast.FormattedValue():
            yield from _texts(node.value, known)
        case ast.IfExp():
            both = [*_texts(node.body, known), *_texts(node.orelse, known)]
            yield from filter(None, both)  # of a text with and without an addition the longer one
        case ast.Name(id=name) | ast.Call(func=ast.Name(id=name)) if name in known:
            less = {other: value for other, value in known.items() if other != name}
            for each in known[name]:
                yield from _texts(each, less)
        case _:
            yield _GAP


def _joined(parts: Sequence[ast.expr], known: _Expressions) -> Iterator[str]:
    for combination in product(*(list(_texts(part, known)) for part in parts)):
        yield _GAPS.sub(_GAP, "".join(combination))
