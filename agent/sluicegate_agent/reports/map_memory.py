"""What the kernel's tables cost, from their declarations in bpf/ alone: no compiler, no privileges, no agent.

Sizes follow ``map_mem_usage`` of each map type (kernel/bpf/{arraymap,hashtab,lpm_trie}.c of Linux 6.18), which is what
the kernel accounts and ``bpftool map`` shows as memlock. Buckets of hash tables are a power of two.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from sluicegate_agent.loader import sources
from sluicegate_agent.loader.request import LoadRequest

_ARRAY_HEAD = 312  # sizeof(struct bpf_array)
_HASH_HEAD = 832  # sizeof(struct bpf_htab)
_LOCKS_PER_CPU = 32  # 8 locks of 4 bytes
_BUCKET = 16
_HASH_ELEMENT = 48  # sizeof(struct htab_elem), before key and value
_LIST_NODE = 8
_POINTER = 8
_TRIE_NODE = 24  # sizeof(struct lpm_trie_node), before the rest of the key and the value
_PREFIX_LENGTH = 4  # of the key of a trie, kept in the node itself

_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_STRUCT = re.compile(r"\bstruct\s+(\w+)\s*\{([^{}]*)\}\s*;")
_MEMBER = re.compile(r"(?:struct\s+)?(\w+)\s+(\w+)(?:\[([^\]]+)\])?")
_DEFINE = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)[ \t]+([\w \t*+()-]+?)[ \t]*$", re.MULTILINE)
_ENUM = re.compile(r"\benum\s+\w+\s*\{([^{}]*)\}")
_TABLE = re.compile(
    r'\bBPF_(F_)?TABLE\(\s*"(\w+)"\s*,\s*(?:struct\s+)?(\w+)\s*,\s*(?:struct\s+)?(\w+)\s*,\s*(\w+)\s*,\s*'
    r"([^,;]+?)\s*(?:,\s*([^;]+?))?\s*\)\s*;"
)
_OF_MAPS = re.compile(r'\bBPF_ARRAY_OF_MAPS\(\s*(\w+)\s*,\s*"(\w+)"\s*,\s*([^;]+?)\s*\)\s*;')
_TERM = re.compile(r"[\s()]*([\w]+)[\s()]*")
_SCALARS = {"u8": 1, "s8": 1, "u16": 2, "s16": 2, "u32": 4, "s32": 4, "int": 4, "u64": 8, "s64": 8}


@dataclass(frozen=True, slots=True)
class MapMemory:
    """One table. ``bytes`` are taken when it is made, ``full`` when it holds all its ``entries``."""

    name: str
    kind: str
    entries: int
    bytes: int
    full: int


def map_memory(request: LoadRequest, cpus: int) -> tuple[MapMemory, ...]:
    """Every table that a set of programs has, the largest first. ``cpus`` are those that the kernel counts as possible.

    Without the selection tables of services: those are :func:`selection_table_bytes` each. Raises LoaderError when
    the sources cannot be read, and ValueError when they declare something that is not understood here.
    """
    found: dict[str, MapMemory] = {}
    for unit in request.units:
        text = _COMMENT.sub("", sources.join(request.sources, unit.file))
        declared = _Declarations(text, request.sizes, len(sources.reasons(request.sources)))
        found |= {row.name: row for row in declared.maps(cpus)}
    return tuple(sorted(found.values(), key=lambda row: (-row.full, row.name)))


def selection_table_bytes(slots: int) -> int:
    """An inner map: an array whose elements the kernel rounds up to 8 bytes."""
    return _ARRAY_HEAD + 8 * slots if slots else 0


class _Table(NamedTuple):
    """One declaration, as it is written."""

    with_flags: str
    kind: str
    key: str
    value: str
    name: str
    entries: str
    flags: str


class _Declarations:
    """Constants, structs and maps of one joined text."""

    def __init__(self, text: str, sizes: Mapping[str, int], reasons: int) -> None:
        self._text = text
        self._structs = dict(_STRUCT.findall(text))
        self._known: dict[str, int] = {"REASON_COUNT": reasons}
        for body in _ENUM.findall(text):
            self._known |= _enumerators(body)
        self._defined = {name: value for name, value in _DEFINE.findall(text) if name not in self._known}
        self._known |= sizes

    def maps(self, cpus: int) -> list[MapMemory]:
        """All that the unit declares and the kernel keeps."""
        templates = {inner for _, inner, _ in _OF_MAPS.findall(self._text)}
        tables = [_Table(*words) for words in _TABLE.findall(self._text)]
        rows = [self._row(table, cpus) for table in tables if table.name not in templates]
        for name, _, entries in _OF_MAPS.findall(self._text):
            count = self.number(entries)
            size = _ARRAY_HEAD + _POINTER * count
            rows.append(MapMemory(name, "array of tables", count, size, size))
        return rows

    def number(self, text: str) -> int:
        """A constant, or a product of constants."""
        product = 1
        for factor in text.split("*"):
            match = _TERM.fullmatch(factor)
            if match is None:
                raise ValueError(f"the sources give a size as {text!r}, which is not a product of constants")
            word = match[1]
            if word in self._known:
                product *= self._known[word]
            elif word.isdecimal():
                product *= int(word)
            elif word in self._defined:
                product *= self.number(self._defined[word])
            else:
                raise ValueError(f"the sources give a size as {text!r}, and {word} is not known")
        return product

    def size(self, name: str) -> tuple[int, int]:
        """Size and alignment in bytes of a type, as the C compiler lays it out."""
        if name in _SCALARS:
            return _SCALARS[name], _SCALARS[name]
        if name not in self._structs:
            raise ValueError(f"the sources have no struct {name}")
        offset, largest = 0, 1
        for member in filter(None, (part.strip() for part in self._structs[name].split(";"))):
            match = _MEMBER.fullmatch(member)
            if match is None:
                raise ValueError(f"struct {name} has a member {member!r}, which is not understood")
            kind, _, count = match.groups()
            size, alignment = self.size(kind)
            offset = _round_up(offset, alignment) + size * (self.number(count) if count else 1)
            largest = max(largest, alignment)
        return _round_up(offset, largest), largest

    def _row(self, table: _Table, cpus: int) -> MapMemory:
        kind, name, entries = table.kind, table.name, self.number(table.entries)
        key, value = self.size(table.key)[0], self.size(table.value)[0]
        key_size, value_size = _round_up(key, 8), _round_up(value, 8)
        if kind in {"array", "prog"}:
            size = _ARRAY_HEAD + entries * value_size
            if "BPF_F_MMAPABLE" in table.flags:  # the rows begin on a page of their own
                size = _round_up(_ARRAY_HEAD, mmap.PAGESIZE) + _round_up(entries * value_size, mmap.PAGESIZE)
            return MapMemory(name, "array" if kind == "array" else "programs", entries, size, size)
        if kind == "percpu_array":
            size = _ARRAY_HEAD + entries * (_POINTER + value_size * cpus)
            return MapMemory(name, "array per CPU", entries, size, size)
        if kind == "lpm_trie":
            node = _TRIE_NODE + key - _PREFIX_LENGTH + value
            return MapMemory(name, "prefixes", entries, 0, entries * node)
        if kind not in {"hash", "lru_hash"}:
            raise ValueError(f"the size of a map of type {kind} is not known here ({name})")
        buckets = 1 << (entries - 1).bit_length()
        head = _HASH_HEAD + _BUCKET * buckets + _LOCKS_PER_CPU * cpus
        element = _HASH_ELEMENT + key_size + value_size
        if "BPF_F_NO_PREALLOC" in table.flags:
            return MapMemory(name, "hash, as used", entries, head, head + entries * (element + _LIST_NODE))
        if kind == "lru_hash":
            size = head + entries * element
            return MapMemory(name, "hash, oldest go", entries, size, size)
        size = head + (entries + cpus) * element + _POINTER * cpus
        return MapMemory(name, "hash", entries, size, size)


def _enumerators(body: str) -> dict[str, int]:
    """Values of an enum; one that a macro fills in is left out."""
    if "(" in body:
        return {}
    found: dict[str, int] = {}
    following = 0
    for part in filter(None, (each.strip() for each in body.split(","))):
        name, equals, value = (each.strip() for each in part.partition("="))
        if equals:
            if not value.isdecimal():
                return found
            following = int(value)
        found[name] = following
        following += 1
    return found


def _round_up(size: int, step: int) -> int:
    return -(-size // step) * step
