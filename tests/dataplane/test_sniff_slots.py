"""No id is given out twice, whatever an update did to the number of verdict words."""

from __future__ import annotations

import numpy as np
import pytest

from sluicegate_agent.datapath.tables import KernelTables
from sluicegate_agent.kernel.clock import hertz
from sluicegate_agent.kernel.native import possible_cpus
from sluicegate_agent.sniffing.slots import settle_ids
from sluicegate_agent.sniffing.tables import SniffTables
from sniff_rig import FLOWS, maps, put_flow, sniff_manifest

__all__ = ["maps", "sniff_manifest"]
pytestmark = pytest.mark.kernel

WORDS = 2 * FLOWS


def opened(tables: KernelTables) -> list[int]:
    """Flows that each CPU has counted."""
    return [int(count) for count in np.frombuffer(tables["sniff_slots"].map.lookup(bytes(4)) or b"", "<u8")]


def flow(tables: KernelTables, port: int, flow_id: int) -> None:
    put_flow(tables, ("10.0.0.1", port), ("10.0.0.2", 80), flow_id=flow_id)


def ids_to_come(counts: list[int]) -> set[int]:
    """The next ids of every CPU: sniff_id() of bpf/sniff_look.h."""
    numbers = [(count + step) * len(counts) + cpu for cpu, count in enumerate(counts) for step in range(WORDS)]
    return {(number // WORDS + 1) << 32 | number % WORDS for number in numbers}


def test_counts_that_fit_the_flows_are_left_alone(maps: KernelTables) -> None:
    flow(maps, 1, 1 << 32 | 5)
    counts = np.full(possible_cpus(), 6, "<u8")
    maps["sniff_slots"].map.update(bytes(4), counts.tobytes())
    assert settle_ids(maps) == 0
    assert opened(maps) == counts.tolist()


def test_ids_of_flows_from_before_are_not_given_out_again(maps: KernelTables) -> None:
    taken = [1 << 32 | 3, 1 << 32 | WORDS - 1, 2 << 32, 3 << 32 | 77]
    for port, flow_id in enumerate(taken):
        flow(maps, port + 1, flow_id)
    assert ids_to_come(opened(maps)) & {*taken}
    SniffTables(maps, hertz())
    assert not ids_to_come(opened(maps)) & {*taken}
    assert len(list(maps["sniffs4"].map.keys())) == len(taken)


def test_flows_beyond_the_words_go(maps: KernelTables, caplog: pytest.LogCaptureFixture) -> None:
    flow(maps, 1, 1 << 32 | WORDS)
    flow(maps, 2, 1 << 32 | 1)
    SniffTables(maps, hertz())
    assert [int(value["id"]) for _, value in maps["sniffs4"].rows()] == [1 << 32 | 1]
    assert "gave up 1 sniffed flows" in caplog.text
