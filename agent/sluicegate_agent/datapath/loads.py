"""What the kernel measures of each backend, read so that thousands of backends cost little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

import numpy as np
import numpy.typing as npt

from sluicegate_agent.datapath.model import BackendId
from sluicegate_agent.datapath.tables import KernelTable
from sluicegate_agent.signals.model import Histogram, Latencies, Load

_SINGLE_READS = 8
"""Up to so many rows are read one by one, whatever their ids."""
_ROWS_PER_CALL = 4
"""A batch has all rows up to the highest id: reading so many of them costs as much as a call for one."""
_FIELDS = tuple(field.name for field in fields(Load))
_COUNTED = tuple(name for name in _FIELDS if name not in {"fix", "forgotten"})


def read_loads(
    loads: KernelTable, fixes: KernelTable, forgotten: Mapping[BackendId, int], backends: Sequence[BackendId]
) -> dict[BackendId, Load]:
    """``backend_load`` and ``backend_fix`` of these backends, and how many of their requests no one sees the end of."""
    if not backends:
        return {}
    rows, corrections = _rows(loads, backends), _rows(fixes, backends)["value"]
    columns = {name: rows[name].tolist() for name in _COUNTED}
    columns["fix"] = corrections.tolist()
    columns["forgotten"] = [forgotten.get(key, 0) for key in backends]
    counts = zip(*(columns[name] for name in _FIELDS), strict=True)
    return {key: Load(*values) for key, values in zip(backends, counts, strict=True)}


def read_latencies(table: KernelTable, backends: Sequence[BackendId]) -> dict[BackendId, Latencies]:
    """``backend_latency`` of these backends."""
    if not backends:
        return {}
    rows = _rows(table, backends)
    handshakes, responses = rows["handshake"].tolist(), rows["first_response"].tolist()
    return {
        key: Latencies(Histogram(tuple(handshake)), Histogram(tuple(response)))
        for key, handshake, response in zip(backends, handshakes, responses, strict=True)
    }


def _rows(table: KernelTable, backends: Sequence[BackendId]) -> npt.NDArray[np.void]:
    """Rows in the order of the ids, read in one batch or one by one, whatever is cheaper."""
    highest = max(backends)
    if len(backends) <= _SINGLE_READS or highest > _ROWS_PER_CALL * len(backends):
        raw = b"".join(table.map.lookup(key.to_bytes(4, "little")) or bytes(table.map.stored_size) for key in backends)
        return np.frombuffer(raw, dtype=table.value)
    found: npt.NDArray[np.void] = table.head(highest + 1)[np.asarray(backends)]
    return found
