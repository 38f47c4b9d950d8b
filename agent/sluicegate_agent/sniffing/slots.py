"""Ids of flows after an update that changed how many verdict words there are.

An id is a slot and a generation: a number that grows by flow, cut in two by the number of words (``sniff_id`` in
bpf/sniff_look.h). Cut elsewhere, the programs would give out ids again that flows from before have, and the engine's
word on the one would hold for the other: it might drop a flow that no rule is against.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sluicegate_agent.datapath.tables import KernelTables
from sluicegate_agent.kernel.native import possible_cpus

_FAMILIES = (4, 6)


def settle_ids(tables: KernelTables) -> int:
    """Have all ids that are given out from now on differ from those in use.

    Flows whose slot is beyond the words are removed: two of them could share a word. Returns how many; none, and
    nothing is written, unless the number of words changed. Raises KernelError.
    """
    words, cpus = tables["sniff_verdicts"].capacity, possible_cpus()
    least = np.zeros(cpus, np.uint64)  # by CPU: what it must have counted so far
    removed = 0
    for family in _FAMILIES:
        table = tables.by_family("sniffs", family)
        for keys, values in table.batches():
            ids = values["id"].astype(np.uint64)
            slots, generations = ids & np.uint64(0xFFFFFFFF), ids >> np.uint64(32)
            alien = (slots >= words) | (generations == 0)
            for key in keys[alien]:
                removed += table.map.delete(key.tobytes())
            _raise(least, ((generations - np.uint64(1)) * np.uint64(words) + slots)[~alien])
    counts = tables["sniff_slots"]
    present = np.frombuffer(counts.map.lookup(bytes(4)) or bytes(8 * cpus), "<u8")
    if (present < least).any():
        counts.map.update(bytes(4), np.maximum(present, least).astype("<u8").tobytes())
    return removed


def _raise(least: npt.NDArray[np.uint64], numbers: npt.NDArray[np.uint64]) -> None:
    """CPU c gives out the numbers n * CPUs + c, for n from 0."""
    cpus = np.uint64(len(least))
    np.maximum.at(least, (numbers % cpus).astype(np.int64), numbers // cpus + np.uint64(1))
