"""Sniff rules in the kernel's tables. A version is written whole under a number of its own, and later removed whole."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sluicegate_agent.datapath.tables import KernelTable, KernelTables
from sluicegate_agent.sniffing.model import TableUse
from sluicegate_agent.sniffing.rulesets import CompiledRules, NetPrefix, PortPrefix, RuleSide

Rows = npt.NDArray[np.void]

_KEY_BITS: Final = 64  # of a prefix's length: table and side
_TRIES: Final = ("sniff_nets4", "sniff_nets6", "sniff_ports")
_CHUNK: Final = 4096  # rows per call


class NoRoomError(Exception):
    """The rules do not fit into a table; the message says into which and by how much."""


@dataclass(frozen=True, slots=True)
class Version:
    """Where a version lies: its table's number, and indices of sets for the sniffer's row."""

    table: int
    protocols: tuple[int, ...]
    ignored: int


class RuleVersions:
    """All versions that are in the kernel. Sets are shared between versions that have the same ones."""

    def __init__(self, tables: KernelTables) -> None:
        """Read what is there. Raises KernelError."""
        self._tries = {name: tables[name] for name in _TRIES}
        self._sets = tables["sniff_sets"]
        self._keys: dict[int, dict[str, Rows]] = {}
        self._in_use: dict[int, frozenset[int]] = {}  # indices by table
        self._index: dict[int, int] = {}  # set -> index
        self._stored: dict[int, int] = {}  # index -> set
        self._read_back()
        self._next = max(self._keys, default=0) + 1

    def __iter__(self) -> Iterator[int]:
        return iter(self._keys)

    def use(self) -> dict[str, TableUse]:
        """Rows in use by table."""
        found = {
            name: TableUse(sum(len(keys[name]) for keys in self._keys.values()), trie.capacity)
            for name, trie in self._tries.items()
        }
        return found | {self._sets.name: TableUse(len(self._used()), self._sets.capacity)}

    def keep(self, version: Version) -> None:
        """Count the sets of a sniffer's row as used by its version: after a restart only the row knows them."""
        known = self._in_use.get(version.table, frozenset())
        self._in_use[version.table] = known | {*version.protocols, version.ignored}

    def content(self, version: Version) -> CompiledRules:
        """What the kernel has under a number, as `compile_rules` gives it. Raises KernelError."""
        nets: dict[NetPrefix, int] = {}
        ports: dict[PortPrefix, int] = {}
        for name, trie in self._tries.items():
            for keys, values in trie.batches():
                of_table = keys["table"] == version.table
                for key, index in zip(keys[of_table], values["value"][of_table].tolist(), strict=True):
                    mask = self._stored.get(index, 0)
                    if name == "sniff_ports":
                        ports[_port_of(key)] = mask
                    else:
                        nets[_net_of(key, 4 if name == "sniff_nets4" else 6)] = mask
        protocols = tuple(self._stored.get(index, 0) for index in version.protocols)
        return CompiledRules(nets, ports, protocols, self._stored.get(version.ignored, 0))

    def write(self, rules: CompiledRules) -> Version:
        """Write a new version, which nobody looks at yet. Raises NoRoomError, with nothing written, and
        KernelError; what was written until then goes when the versions are read back."""
        self._check_room(rules)
        indices = self._place_sets(rules)
        table, self._next = self._next, self._next + 1
        version = Version(table, tuple(indices[mask] for mask in rules.protocols), indices[rules.ignored])
        self._in_use[table] = frozenset(indices.values())
        written = self._keys[table] = {name: np.zeros(0, trie.key) for name, trie in self._tries.items()}
        rows = _rows_of(rules, table, indices, self._tries)
        for name, (keys, values) in rows.items():
            written[name] = keys
            for first in range(0, len(keys), _CHUNK):
                part = keys[first : first + _CHUNK]
                self._tries[name].map.update_batch(part.tobytes(), values[first : first + _CHUNK].tobytes(), len(part))
        return version

    def remove(self, numbers: Iterable[int]) -> None:
        """Remove versions at which no program looks any more. Raises KernelError."""
        for table in numbers:
            for name, keys in self._keys.get(table, {}).items():
                for key in keys:
                    self._tries[name].map.delete(key.tobytes())
            self._keys.pop(table, None)
            self._in_use.pop(table, None)
        used = self._used()
        self._stored = {index: mask for index, mask in self._stored.items() if index in used}
        self._index = {mask: index for index, mask in self._stored.items()}

    def _used(self) -> frozenset[int]:
        return frozenset().union(*self._in_use.values()) - {0}

    def _check_room(self, rules: CompiledRules) -> None:
        families = {4: "sniff_nets4", 6: "sniff_nets6"}
        wanted = dict.fromkeys(_TRIES, 0)
        for prefix in rules.nets:
            wanted[families[prefix.family]] += 1
        wanted["sniff_ports"] = len(rules.ports)
        use = self.use()
        for name, what in (
            ("sniff_nets4", "IPv4 prefixes"),
            ("sniff_nets6", "IPv6 prefixes"),
            ("sniff_ports", "ports"),
        ):
            _check(what, wanted[name], use[name].capacity - use[name].used, use[name].capacity)
        fresh = sum(mask not in self._index for mask in rules.sets() - {0})
        spare = self._sets.capacity - 1 - len(self._stored)
        _check("sets of rules", fresh, spare, self._sets.capacity - 1)

    def _place_sets(self, rules: CompiledRules) -> dict[int, int]:
        """An index for every set of the rules; those that are not in the kernel yet are written."""
        found = {0: 0}
        free = (index for index in range(1, self._sets.capacity) if index not in self._stored)
        size = self._sets.value.itemsize
        for mask in sorted(rules.sets() - {0}):
            index = self._index.get(mask)
            if index is None:
                index = next(free)
                self._sets.put(index, mask.to_bytes(size, "little"))
                self._index[mask], self._stored[index] = index, mask
            found[mask] = index
        return found

    def _read_back(self) -> None:
        sets: dict[int, set[int]] = {}
        found: dict[int, dict[str, list[Rows]]] = {}
        for name, trie in self._tries.items():
            for keys, values in trie.batches():
                for table in np.unique(keys["table"]).tolist():
                    of_table = keys["table"] == table
                    found.setdefault(table, {}).setdefault(name, []).append(keys[of_table])
                    sets.setdefault(table, set()).update(values["value"][of_table].tolist())
        for table, rows in found.items():
            self._keys[table] = {
                name: np.concatenate(rows[name]) if name in rows else np.zeros(0, trie.key)
                for name, trie in self._tries.items()
            }
            self._in_use[table] = frozenset(sets[table])
        if found:
            stored = self._sets.head(self._sets.capacity)
            for index in range(1, self._sets.capacity):
                mask = int.from_bytes(stored[index].tobytes(), "little")
                if mask:
                    self._index[mask], self._stored[index] = index, mask


def _check(what: str, wanted: int, spare: int, capacity: int) -> None:
    if wanted > spare:
        raise NoRoomError(
            f"the sniff rules need {wanted} {what}, and {spare} of {capacity} are free "
            "(rules that change are there twice for a moment): use fewer or larger networks and port ranges"
        )


def _rows_of(
    rules: CompiledRules, table: int, indices: dict[int, int], tries: dict[str, KernelTable]
) -> dict[str, tuple[Rows, Rows]]:
    """Keys and values of each trie."""
    nets: dict[int, list[tuple[NetPrefix, int]]] = {4: [], 6: []}
    for prefix, mask in rules.nets.items():
        nets[prefix.family].append((prefix, indices[mask]))
    keys4 = np.zeros(len(nets[4]), tries["sniff_nets4"].key)
    keys4["address"] = [socket.htonl(prefix.address) for prefix, _ in nets[4]]
    keys6 = np.zeros(len(nets[6]), tries["sniff_nets6"].key)
    packed = b"".join(prefix.address.to_bytes(16) for prefix, _ in nets[6])
    keys6["address"] = np.frombuffer(packed, "<u4").reshape(-1, 4)
    ports = [(prefix, indices[mask]) for prefix, mask in rules.ports.items()]
    keys_of_ports = np.zeros(len(ports), tries["sniff_ports"].key)
    keys_of_ports["port"] = [socket.htons(prefix.port) for prefix, _ in ports]
    found: dict[str, tuple[Rows, Rows]] = {}
    for name, keys, rows in (
        ("sniff_nets4", keys4, nets[4]),
        ("sniff_nets6", keys6, nets[6]),
        ("sniff_ports", keys_of_ports, ports),
    ):
        keys["table"] = table
        keys["side"] = [prefix.side for prefix, _ in rows]
        keys["prefix_length"] = [_KEY_BITS + prefix.length for prefix, _ in rows]
        values = np.zeros(len(rows), tries[name].value)
        values["value"] = [index for _, index in rows]
        found[name] = keys, values
    return found


def _net_of(key: np.void, family: int) -> NetPrefix:
    address = int.from_bytes(np.atleast_1d(key["address"]).astype("<u4").tobytes())
    return NetPrefix(family, RuleSide(int(key["side"])), address, int(key["prefix_length"]) - _KEY_BITS)


def _port_of(key: np.void) -> PortPrefix:
    port = socket.ntohs(int(key["port"]))
    return PortPrefix(RuleSide(int(key["side"])), port, int(key["prefix_length"]) - _KEY_BITS)
