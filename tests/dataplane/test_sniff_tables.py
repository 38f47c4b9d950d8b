"""Rules, rows and taps in the kernel's maps: what a change writes, what it leaves alone, what outlives the agent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network

import numpy as np
import pytest

from sluicegate_agent.datapath.tables import KernelTables
from sluicegate_agent.dpi.sniffing.rules import Side, SniffRule
from sluicegate_agent.dpi.sniffing.sniffer import Budget
from sluicegate_agent.kernel.libbpf import BpfMap, KernelError
from sluicegate_agent.kernel.native import possible_cpus
from sluicegate_agent.sniffing.model import NO_RULE, RULES, TAPS, SnifferPlan, Tap
from sluicegate_agent.sniffing.rulesets import compile_rules
from sluicegate_agent.sniffing.tables import SniffTables
from sluicegate_agent.sniffing.versions import NoRoomError, RuleVersions, Version
from sniff_rig import maps, sniff_manifest

__all__ = ["maps", "sniff_manifest"]
pytestmark = pytest.mark.kernel

HERTZ = 250
WEB = SniffRule("web", frozenset({6}), destination=Side((ip_network("10.0.0.0/8"),), ((80, 80), (443, 443))))
INNER = SniffRule("inner", destination=Side((ip_network("10.1.0.0/16"), ip_network("2001:db8::/32"))), ignore=True)
REST = SniffRule("rest", source=Side(ports=((1024, 65535),)))
PLAN = SnifferPlan(1, "shop/edge", (INNER, WEB, REST))
TAP = Tap(7, 1, True)


@pytest.fixture
def sniffing(maps: KernelTables) -> SniffTables:
    return SniffTables(maps, HERTZ)


def version_of(tables: KernelTables, number: int) -> Version:
    row = tables["sniffers"].get(number)
    assert row is not None
    return Version(int(row["table"]), tuple(row["protocols"].tolist()), int(row["ignored"]))


def prefixes(tables: KernelTables) -> dict[str, int]:
    return {name: len(list(tables[name].rows())) for name in ("sniff_nets4", "sniff_nets6", "sniff_ports")}


def tap_at(tables: KernelTables, slot: int) -> tuple[int, ...]:
    row = tables["taps"].get(slot)
    assert row is not None
    return int(row["ifindex"]), int(row["sniffer"]), int(row["flags"])


def test_rules_are_in_the_kernel_as_they_were_compiled(maps: KernelTables, sniffing: SniffTables) -> None:
    assert not sniffing.apply([PLAN], [TAP]).refused_plans
    found = RuleVersions(maps).content(version_of(maps, 1))
    assert found == compile_rules(PLAN.rules)


def test_a_row_has_budget_times_and_flags(maps: KernelTables, sniffing: SniffTables) -> None:
    budget = Budget(payload_packets=3, payload_bytes=4000, max_packets=5)
    plan = SnifferPlan(63, "a", (), budget, adaptive=False, send_empty=True, tcp_idle_seconds=2, other_idle_seconds=0.5)
    sniffing.apply([plan], [])
    row = maps["sniffers"].get(63)
    assert row is not None
    assert {name: int(row[name]) for name in ("table", "max_packets", "payload_packets", "payload_bytes", "flags")} == {
        "table": 0,
        "max_packets": 5,
        "payload_packets": 3,
        "payload_bytes": 4000,
        "flags": 2,
    }
    assert (int(row["tcp_idle"]), int(row["other_idle"])) == (2 * HERTZ, HERTZ // 2)


def test_new_rules_replace_the_old_ones_whole(maps: KernelTables, sniffing: SniffTables) -> None:
    sniffing.apply([PLAN], [TAP])
    before = version_of(maps, 1)
    sniffing.apply([replace(PLAN, rules=(REST,))], [TAP])
    after = version_of(maps, 1)
    assert after.table != before.table
    assert RuleVersions(maps).content(after) == compile_rules((REST,))
    compiled = compile_rules((REST,))
    assert prefixes(maps) == {"sniff_nets4": 2, "sniff_nets6": 2, "sniff_ports": len(compiled.ports)}
    assert sniffing.use()["sniff_sets"].used == 1  # any address, any protocol, high ports: all the same rule


def test_a_new_budget_leaves_rules_and_their_counts_alone(maps: KernelTables, sniffing: SniffTables) -> None:
    sniffing.apply([PLAN], [TAP])
    before = version_of(maps, 1)
    maps["sniff_rule_flows"].put(RULES + 1, (9).to_bytes(8, "little"))
    sniffing.apply([replace(PLAN, budget=Budget(max_packets=7), rules=(*PLAN.rules,))], [TAP])
    assert version_of(maps, 1) == before
    assert sniffing.counters()[1].rule_flows == (0, 9, 0)


def test_applying_the_same_again_writes_nothing(
    maps: KernelTables, sniffing: SniffTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    sniffing.apply([PLAN], [TAP])

    def refuse(*_: object) -> None:
        raise AssertionError("written")

    for name in ("update", "update_batch", "delete"):
        monkeypatch.setattr(BpfMap, name, refuse)
    sniffing.apply([PLAN], [TAP])


def test_a_sniffer_that_goes_leaves_nothing(maps: KernelTables, sniffing: SniffTables) -> None:
    other = SnifferPlan(2, "shop/other", (REST,))
    sniffing.apply([PLAN, other], [TAP, Tap(8, 2, False)])
    sniffing.apply([other], [Tap(7, 2, False)])
    assert tap_at(maps, 7) == (7, 2, 0)
    assert tap_at(maps, 8) == (0, 0, 0)
    row = maps["sniffers"].get(1)
    assert row is not None
    assert not row.tobytes().strip(b"\0")
    sniffing.clear()
    assert set(prefixes(maps).values()) == {0}
    assert sniffing.taps == ()
    assert sniffing.numbers == frozenset()


def test_an_agent_that_starts_again_finds_its_rules_and_writes_none(maps: KernelTables, sniffing: SniffTables) -> None:
    sniffing.apply([PLAN], [TAP])
    before = version_of(maps, 1)
    again = SniffTables(maps, HERTZ)
    assert again.taps == (TAP,)
    again.apply([PLAN], [TAP])
    assert version_of(maps, 1) == before
    again.apply([replace(PLAN, rules=(REST,))], [TAP])
    assert version_of(maps, 1).table > before.table
    assert RuleVersions(maps).content(version_of(maps, 1)) == compile_rules((REST,))
    assert again.use()["sniff_sets"].used == 1


def test_rules_that_a_killed_agent_left_half_written_are_removed(maps: KernelTables, sniffing: SniffTables) -> None:
    sniffing.apply([PLAN], [TAP])
    before = prefixes(maps)
    RuleVersions(maps).write(compile_rules((WEB,)))
    assert prefixes(maps) != before
    again = SniffTables(maps, HERTZ)
    assert prefixes(maps) == before
    assert again.use()["sniff_sets"] == sniffing.use()["sniff_sets"]
    assert RuleVersions(maps).content(version_of(maps, 1)) == compile_rules(PLAN.rules)


@pytest.mark.parametrize("table", ["sniff_sets", "sniff_nets4", "sniff_ports", "sniffers", "taps"])
def test_a_failure_in_the_middle_is_mended_by_the_next_call(
    maps: KernelTables, sniffing: SniffTables, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    sniffing.apply([PLAN], [TAP])
    sniffing.flow_facts()
    for name in ("update", "update_batch"):
        real = getattr(BpfMap, name)

        def fail(self: BpfMap, *arguments: object, real: Callable[..., None] = real) -> None:
            if self.info.name == table:
                raise KernelError(f"write {table}", 12)
            real(self, *arguments)

        monkeypatch.setattr(BpfMap, name, fail)
    changed = replace(PLAN, rules=(WEB, REST))
    with pytest.raises(KernelError, match=f"cannot write {table}"):
        sniffing.apply([changed], [Tap(7, 1, False)])
    in_force = changed if table == "taps" else PLAN
    assert RuleVersions(maps).content(version_of(maps, 1)) == compile_rules(in_force.rules)
    monkeypatch.undo()
    sniffing.apply([changed], [Tap(7, 1, False)])
    compiled = compile_rules(changed.rules)
    assert RuleVersions(maps).content(version_of(maps, 1)) == compiled
    assert sum(prefixes(maps).values()) == len(compiled.nets) + len(compiled.ports)
    assert sniffing.use()["sniff_sets"].used == len(compiled.sets() - {0})
    assert tap_at(maps, 7) == (7, 1, 0)
    assert sniffing.flow_facts().handed_over == frozenset()


def many(count: int, base: int = 0) -> tuple[SniffRule, ...]:
    """Rules of one network each, of 10.0.0.0/8."""
    networks = [ip_network(((10 << 24) + (base + index << 8), 24)) for index in range(count)]
    return tuple(SniffRule(f"r{index}", destination=Side((network,))) for index, network in enumerate(networks))


def test_rules_without_room_are_refused_and_the_old_ones_stay(maps: KernelTables, sniffing: SniffTables) -> None:
    sniffing.apply([replace(PLAN, rules=many(300))], [TAP])
    before = version_of(maps, 1)
    refused = sniffing.apply([replace(PLAN, rules=many(301))], [TAP]).refused_plans
    assert "need 303 IPv4 prefixes, and 210 of 512 are free" in refused[1]
    assert version_of(maps, 1) == before
    assert tap_at(maps, 7) == (7, 1, 1)


def test_a_sniffer_whose_rules_have_no_room_at_first_gets_that_of_one_that_goes(
    maps: KernelTables, sniffing: SniffTables
) -> None:
    sniffing.apply([replace(PLAN, rules=many(300))], [TAP])
    applied = sniffing.apply([SnifferPlan(2, "shop/other", many(301))], [Tap(7, 2, True)])
    assert (applied.refused_plans, applied.refused_taps) == ({}, {})
    assert tap_at(maps, 7) == (7, 2, 1)
    assert RuleVersions(maps).content(version_of(maps, 2)) == compile_rules(many(301))


def test_a_new_sniffer_without_room_gets_no_tap(maps: KernelTables, sniffing: SniffTables) -> None:
    applied = sniffing.apply([replace(PLAN, rules=many(511))], [TAP])
    assert set(applied.refused_plans) == {1}
    assert "number 1" in applied.refused_taps[7]
    assert tap_at(maps, 7) == (0, 0, 0)


def test_sets_that_no_rules_name_any_more_are_used_again(maps: KernelTables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps["sniff_sets"], "capacity", 40)
    sniffing = SniffTables(maps, HERTZ)
    for base in range(5):
        rules = tuple(replace(rule, ignore=base % 2 == 0) for rule in many(10, base))
        rules = (*rules, *(REST,) * base)  # other sets each time
        assert sniffing.apply([replace(PLAN, rules=rules)], []).refused_plans == {}


def test_too_many_rules_are_refused_by_number(sniffing: SniffTables) -> None:
    applied = sniffing.apply([replace(PLAN, rules=(REST,) * (NO_RULE + 1))], [])
    assert "1024 sniff rules" in applied.refused_plans[1]


def test_versions_write_nothing_when_there_is_no_room(maps: KernelTables) -> None:
    versions = RuleVersions(maps)
    with pytest.raises(NoRoomError):
        versions.write(compile_rules(many(511)))
    assert set(prefixes(maps).values()) == {0}


def test_interfaces_of_one_remainder_cannot_both_be_sniffed(maps: KernelTables, sniffing: SniffTables) -> None:
    applied = sniffing.apply([PLAN], [TAP, Tap(7 + TAPS, 1, False)])
    assert "cannot both be sniffed" in applied.refused_taps[7 + TAPS]
    assert tap_at(maps, 7) == (7, 1, 1)


def test_another_owner_of_a_number_begins_with_fresh_counts(maps: KernelTables, sniffing: SniffTables) -> None:
    sniffing.apply([PLAN], [TAP])
    size = maps["sniff_counters"].map.stored_size
    maps["sniff_counters"].map.update((1).to_bytes(4, "little"), b"\1".ljust(8, b"\0") * (size // 8))
    maps["sniff_rule_flows"].put(RULES + NO_RULE, (4).to_bytes(8, "little"))
    counters = sniffing.counters()[1]
    assert counters.packets > 0
    assert counters.unmatched == 4
    sniffing.apply([replace(PLAN, owner="shop/other")], [TAP])
    counters = sniffing.counters()[1]
    assert (counters.packets, counters.unmatched, counters.share_sent) == (0, 0, None)


def test_readers_and_the_clock(maps: KernelTables, sniffing: SniffTables) -> None:
    assert sniffing.readers == (0, 0)
    row = maps["sniff_settings"].get(0)
    assert row is not None
    assert int(row["cpus"]) == possible_cpus()  # ids are right from the first flow
    sniffing.set_readers(2, 1 << 20)
    first = maps["sniff_settings"].get(0)
    sniffing.refresh_clock()
    second = maps["sniff_settings"].get(0)
    assert first is not None
    assert second is not None
    assert abs(int(second["clock_offset"]) - int(first["clock_offset"])) < 10**9
    assert sniffing.readers == (2, 1 << 20)
    assert int(second["hertz"]) == HERTZ
    assert sniffing.losses() == (0, 0)
    sniffing.set_readers(0, 0)


def test_losses_are_summed_over_cpus(maps: KernelTables, sniffing: SniffTables) -> None:
    sniffing.set_readers(1, 1 << 20)
    rows = np.zeros(maps["sniff_lost"].map.stored_size // 16, maps["sniff_lost"].value)
    rows["total"], rows["unsaid"] = 3, 1
    maps["sniff_lost"].map.update(bytes(4), rows.tobytes())
    assert sniffing.losses() == (3 * len(rows),)
