"""Rules and patterns on their way into the engine."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from sluicegate_agent.dpi import binding
from sluicegate_agent.dpi.binding import EngineError, PatternError
from sluicegate_agent.dpi.engine_model import MAX_DROP_SECONDS
from sluicegate_agent.dpi.rules.tables import NO_OFFSET, RuleTables

_T = TypeVar("_T")


class CompiledRules:
    """Rules ready for one engine; made in any thread."""

    def __init__(self, handle: Any, size: int) -> None:
        """Own what `compile_rules` made."""
        self._handle = handle
        self.size = size  # bytes of the databases

    def take(self) -> Any:
        """Hand over to an engine, once."""
        handle, self._handle = self._handle, None
        if handle is None:
            msg = "these compiled rules were given to an engine already: compile them again"
            raise EngineError(msg)
        return handle

    def __del__(self) -> None:
        """Free what no engine took."""
        if self._handle is not None and binding.available() is None:
            binding.module().lib.sg_compiled_free(self._handle)


def compile_rules(rules: RuleTables, drop_seconds: Mapping[int, int] = {}) -> CompiledRules:
    """Check and compile; takes seconds for thousands of rules, needs no engine and holds no lock meanwhile.

    `drop_seconds`, by sid, says how long rules drop whose action that is.
    """
    native = binding.module()
    ffi, lib = native.ffi, native.lib
    keep: list[Any] = []

    def array(kind: str, rows: Sequence[Any]) -> Any:
        keep.append(ffi.new(f"{kind}[]", rows or 1))
        return keep[-1]

    patterns = []
    for row in rules.patterns:
        keep.append(ffi.new("char[]", row.expression))
        patterns.append((keep[-1], row.flags, row.buffer, row.directions, 0, row.min_offset, row.max_offset))
    ranges, address_sets = _sets(rules.address_sets)
    ports, port_sets = _sets(rules.port_sets)
    wanted = [
        (
            rule.need,
            rule.forbid,
            rule.request_bits,
            rule.sid,
            rule.source,
            rule.destination,
            rule.source_port,
            rule.destination_port,
            rule.dsize_low,
            rule.dsize_high,
            rule.l4,
            rule.app,
            rule.flags,
            rule.action,
            min(drop_seconds.get(rule.sid, 0), MAX_DROP_SECONDS),
        )
        for rule in rules.rules
    ]
    table = ffi.new("struct sg_ruleset *")
    table.patterns = array("struct sg_pattern", patterns)
    table.first_term = array("uint32_t", list(rules.first_term))
    table.terms = array("struct sg_term", [tuple(term) for term in rules.terms])
    table.rules = array("struct sg_rule", wanted)
    table.bare = array("uint32_t", list(rules.bare))
    table.address_sets = array("struct sg_set", address_sets)
    table.ranges = array("struct sg_range", [(list(low), list(high)) for low, high in ranges])
    table.port_sets = array("struct sg_set", port_sets)
    table.ports = array("struct sg_ports", ports)
    table.pattern_count = len(patterns)
    table.term_count = len(rules.terms)
    table.rule_count = len(wanted)
    table.bare_count = len(rules.bare)
    table.address_set_count = len(address_sets)
    table.range_count = len(ranges)
    table.port_set_count = len(port_sets)
    table.port_count = len(ports)
    table.reach = list(rules.reach)
    table.keep_for_app = list(rules.keep_for_app)
    if len(rules.first_term) != len(patterns) + 1:
        msg = f"first_term has {len(rules.first_term)} entries for {len(patterns)} patterns: one more is needed"
        raise EngineError(msg)
    bad = ffi.new("int64_t *")
    handle = lib.sg_compile(table, bad)
    if handle == ffi.NULL:
        if bad[0] >= 0:
            raise PatternError(binding.error(), bad[0])
        msg = f"rules were not compiled: {binding.error()}"
        raise EngineError(msg)
    return CompiledRules(handle, lib.sg_compiled_bytes(handle))


def _sets(sets: Sequence[Sequence[_T]]) -> tuple[list[_T], list[tuple[int, int]]]:
    """All entries in one row, and where each set's begin and how many they are."""
    entries: list[_T] = []
    places: list[tuple[int, int]] = []
    for members in sets:
        places.append((len(entries), len(members)))
        entries.extend(members)
    return entries, places


def time_pattern(
    expression: bytes,
    flags: int,
    min_offset: int = 0,
    max_offset: int = NO_OFFSET,
    sample: bytes = b"",
    *,
    buffer: int = 0,
    chunk: int = 1400,
) -> tuple[float, int]:
    """CPU seconds and matches of one pattern over a sample in chunks, as a stream where `buffer` is one.

    Raises PatternError when Vectorscan refuses the pattern.
    """
    native = binding.module()
    text = native.ffi.new("char[]", expression)
    pattern = native.ffi.new("struct sg_pattern *", (text, flags, buffer, 3, 0, min_offset, max_offset))
    matches = native.ffi.new("uint64_t *")
    spent = native.lib.sg_time_pattern(
        pattern, native.ffi.from_buffer("uint8_t[]", sample), len(sample), chunk, matches
    )
    if spent < 0:
        raise PatternError(binding.error(), 0)
    return spent / 1e9, matches[0]


def check_pattern(
    expression: bytes, flags: int, min_offset: int = 0, max_offset: int = NO_OFFSET, buffer: int = 0
) -> None:
    """Compile one pattern and throw it away; raises PatternError with Vectorscan's words."""
    time_pattern(expression, flags, min_offset, max_offset, buffer=buffer)
