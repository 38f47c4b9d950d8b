"""What the programs count of each sniffer, of its rules, and of each ring."""

from __future__ import annotations

from collections.abc import Mapping

from sluicegate_agent.datapath.tables import KernelTables
from sluicegate_agent.sniffing.model import NO_RULE, RULES, SniffCounters


def read_counters(tables: KernelTables, rules: Mapping[int, int]) -> dict[int, SniffCounters]:
    """Counters by number of the sniffer; ``rules`` says how many each has. Raises KernelError."""
    if not rules:
        return {}
    by_rule = tables["sniff_rule_flows"].head((max(rules) + 1) * RULES)["value"]
    found = {}
    for number, count in rules.items():
        flows = by_rule[number * RULES : (number + 1) * RULES]
        totals = tables["sniff_counters"].per_cpu_sum(number)
        found[number] = SniffCounters(**totals, rule_flows=tuple(flows[:count].tolist()), unmatched=int(flows[NO_RULE]))
    return found


def read_losses(tables: KernelTables, workers: int) -> tuple[int, ...]:
    """Records that found no room in the ring of each worker. Raises KernelError."""
    return tuple(tables["sniff_lost"].per_cpu_sum(worker)["total"] for worker in range(workers))


def clear_counters(tables: KernelTables, number: int) -> None:
    """Begin anew, because the number has another owner. Raises KernelError."""
    tables["sniff_counters"].clear(number)
    clear_rule_flows(tables, number)


def clear_rule_flows(tables: KernelTables, number: int) -> None:
    """Begin anew, because the rules are others. Raises KernelError."""
    table = tables["sniff_rule_flows"]
    keys = b"".join(index.to_bytes(4, "little") for index in range(number * RULES, (number + 1) * RULES))
    table.map.update_batch(keys, bytes(RULES * table.map.stored_size), RULES)
