"""Flow tables in memory with the layouts of bpf/types.h, as far as the agent reads them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address

import numpy as np
import numpy.typing as npt

from sluicegate_agent.datapath.codec import address_words, port_of

Rows = npt.NDArray[np.void]


def _address(family: int) -> object:
    return "<u4" if family == 4 else ("<u4", 4)


def _dtype(*members: tuple[str, object]) -> np.dtype[np.void]:
    return np.dtype([(name, *kind) if isinstance(kind, tuple) else (name, kind) for name, kind in members])


def flows_layouts(family: int) -> tuple[np.dtype[np.void], np.dtype[np.void]]:
    key = _dtype(("client", _address(family)), ("client_port", "<u2"), ("frontend", "<u2"))
    return key, _dtype(("state", "<u8"), ("backend", "<u4"), ("backend_generation", "<u2"), ("last_seen", "<u4"))


def nat_layouts(family: int) -> tuple[np.dtype[np.void], np.dtype[np.void]]:
    key = _dtype(
        ("backend", _address(family)),
        ("source", _address(family)),
        ("backend_port", "<u2"),
        ("source_port", "<u2"),
        ("protocol", "<u4"),
    )
    value = _dtype(
        ("state", "<u8"),
        ("client", ("<u4", 4)),
        ("frontend", "<u4"),
        ("backend", "<u4"),
        ("client_port", "<u2"),
        ("backend_generation", "<u2"),
        ("last_seen", "<u4"),
    )
    return key, value


@dataclass
class Table:
    """Rows in batches of ``chunk``; ``most`` is the largest batch that was alive at once."""

    keys: Rows
    values: Rows
    capacity: int = 64
    chunk: int = 3

    def batches(self) -> Iterator[tuple[Rows, Rows]]:
        for first in range(0, len(self.keys), self.chunk):
            yield self.keys[first : first + self.chunk], self.values[first : first + self.chunk]


@dataclass
class Tables:
    """Both tables of both families, filled row by row."""

    rows: dict[str, list[tuple[bytes, bytes]]] = field(default_factory=dict)

    def by_family(self, name: str, family: int) -> Table:
        key, value = flows_layouts(family) if name == "flows" else nat_layouts(family)
        rows = self.rows.get(f"{name}{family}", [])
        return Table(
            np.frombuffer(b"".join(each for each, _ in rows), dtype=key),
            np.frombuffer(b"".join(each for _, each in rows), dtype=value),
        )

    def add_kept(
        self, client: str, port: int, frontend: int, backend: int, *, state: int, last_seen: int, generation: int = 1
    ) -> None:
        """A row of ``flows``."""
        family = ip_address(client).version
        layouts = flows_layouts(family)
        key, value = (np.zeros(1, dtype=layout) for layout in layouts)
        key["client"] = _words(client, family)
        key["client_port"] = port_of(port)
        key["frontend"] = frontend
        value["state"], value["backend"], value["last_seen"] = state, backend, last_seen
        value["backend_generation"] = generation
        self.rows.setdefault(f"flows{family}", []).append((key.tobytes(), value.tobytes()))

    def add_translated(
        self,
        client: str,
        port: int,
        frontend: int,
        backend: tuple[int, str, int],
        *,
        source: tuple[str, int],
        state: int,
        last_seen: int,
    ) -> None:
        """A row of ``nat``; ``backend`` is its id, address and port."""
        family = ip_address(client).version
        layouts = nat_layouts(family)
        key, value = (np.zeros(1, dtype=layout) for layout in layouts)
        key["backend"] = _words(backend[1], family)
        key["source"] = _words(source[0], family)
        key["backend_port"], key["source_port"] = port_of(backend[2]), port_of(source[1])
        value["client"] = address_words(ip_address(client))
        value["client_port"] = port_of(port)
        value["frontend"], value["backend"] = frontend, backend[0]
        value["state"], value["last_seen"], value["backend_generation"] = state, last_seen, 1
        self.rows.setdefault(f"nat{family}", []).append((key.tobytes(), value.tobytes()))


def _words(address: str, family: int) -> npt.NDArray[np.uint32] | np.uint32:
    words = address_words(ip_address(address))
    return words[0] if family == 4 else words
