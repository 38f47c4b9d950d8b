"""Open kernel maps with their layouts, and reading them in batches into numpy arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Self

import numpy as np
import numpy.typing as npt

from sluicegate_agent.datapath.codec import Layout
from sluicegate_agent.kernel.libbpf import BpfMap
from sluicegate_agent.kernel.native import possible_cpus
from sluicegate_agent.loader.manifest import Manifest, MapLayout

_PAD = 8


class KernelTable:
    """One map: typed keys and values over :class:`BpfMap`."""

    def __init__(self, name: str, layout: MapLayout) -> None:
        if layout.path is None:
            raise ValueError(f"{name} is only a template")
        self.name = name
        self.map = BpfMap.open(layout.path)
        self.key: Layout = layout.key_dtype
        self.value: Layout = layout.value_dtype
        self.capacity = layout.max_entries

    def get(self, index: int) -> np.void | None:
        """The row of an array or of a hash with integer keys."""
        raw = self.map.lookup(index.to_bytes(4, "little"))
        if raw is None:
            return None
        row: np.void = np.frombuffer(raw, dtype=self.value)[0]
        return row

    def put(self, index: int, value: bytes) -> None:
        """Write the row of an array or of a hash with integer keys."""
        self.map.update(index.to_bytes(4, "little"), value)

    def clear(self, index: int) -> None:
        """Fill the row with zeros, on all CPUs."""
        self.map.update(index.to_bytes(4, "little"), bytes(self.map.stored_size))

    def per_cpu_sum(self, index: int) -> dict[str, int]:
        """A per-CPU row of plain counters, summed over CPUs."""
        raw = self.map.lookup(index.to_bytes(4, "little")) or b""
        size = self.value.itemsize
        stride = -(-size // _PAD) * _PAD
        rows = [np.frombuffer(raw, dtype=self.value, count=1, offset=cpu * stride) for cpu in range(possible_cpus())]
        joined = np.concatenate(rows)
        return {name: int(joined[name].sum()) for name in self.value.names or ()}

    def head(self, count: int) -> npt.NDArray[np.void]:
        """The rows of an array's first indices, in one call to the kernel."""
        return np.frombuffer(self.map.first_rows(min(count, self.capacity)), dtype=self.value)

    def batches(self) -> Iterator[tuple[npt.NDArray[np.void], npt.NDArray[np.void]]]:
        """All rows as arrays of keys and values."""
        for keys, values, count in self.map.items_batch():
            yield (
                np.frombuffer(keys, dtype=self.key, count=count),
                np.frombuffer(values, dtype=self.value, count=count),
            )

    def rows(self) -> Iterator[tuple[np.void, np.void]]:
        """All rows, one by one: for tables that user space itself fills."""
        for keys, values in self.batches():
            yield from zip(keys, values, strict=True)


class KernelTables(Mapping[str, KernelTable]):
    """All maps of a manifest, by the names of ``bpf/maps.h``."""

    def __init__(self, manifest: Manifest) -> None:
        self._tables = {
            name: KernelTable(name, layout) for name, layout in manifest.maps.items() if layout.path is not None
        }

    def __getitem__(self, name: str) -> KernelTable:
        return self._tables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)

    def by_family(self, name: str, family: int) -> KernelTable:
        """``vips`` → ``vips4`` or ``vips6``, and so on."""
        return self._tables[f"{name}{family}"]

    def close(self) -> None:
        """Close all descriptors; the pins stay."""
        for table in self._tables.values():
            table.map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
