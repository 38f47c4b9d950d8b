"""The reconciler: it reaches the desired state although the data path fails, and breaks no rule on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_worlds import balancer, builder, kernel_states, network, without_free

from sluicegate_agent.datapath.memory import MemoryDatapath
from sluicegate_agent.datapath.model import KernelState, Operation, Table
from sluicegate_agent.datapath.protocol import DatapathError
from sluicegate_agent.planning.reconcile import Reconciler


def failing_on(*tables: Table) -> Callable[[Operation], Exception | None]:
    return lambda operation: DatapathError(f"{operation.table}: no space") if operation.table in tables else None


def healed(_: Operation) -> None:
    return None


def one_backend() -> KernelState:
    return builder().build([balancer(backends=["10.0.0.1"])], network(["10.0.0.1"]), {}, KernelState(), 0.0).state


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_it_converges_once_failures_end_and_never_breaks_a_rule_before(data: st.DataObject) -> None:
    datapath = MemoryDatapath()
    reconciler = Reconciler(datapath)
    refusals = data.draw(st.lists(st.lists(st.booleans(), max_size=40), max_size=3))
    for refused in refusals:
        answers = iter(refused)
        datapath.fail = lambda _, answers=answers: DatapathError("on command") if next(answers, False) else None
        reconciler.reconcile(data.draw(kernel_states(datapath.observe())))
    datapath.fail = healed
    desired = data.draw(kernel_states(datapath.observe()))
    reports = [reconciler.reconcile(desired) for _ in range(2)]
    assert reports[-1].converged
    assert without_free(datapath.observe()) == desired


def test_what_needs_a_failed_row_is_held_back_and_said() -> None:
    datapath = MemoryDatapath(failing_on(Table.BACKENDS))
    report = Reconciler(datapath).reconcile(one_backend())
    assert [failure.operation.table for failure in report.failed] == [Table.BACKENDS]
    assert report.failed[0].error == "backends: no space"
    assert [failure.operation.table for failure in report.held_back] == [Table.SLOTS, Table.FRONTENDS, Table.VIPS]
    assert not report.converged


def test_what_does_not_need_a_failed_row_is_carried_out() -> None:
    datapath = MemoryDatapath(failing_on(Table.SETTINGS))
    report = Reconciler(datapath).reconcile(one_backend())
    assert len(report.failed) == 1
    assert not report.held_back
    assert datapath.observe().vips


def test_a_vip_that_cannot_be_unbound_keeps_all_that_it_needs() -> None:
    datapath = MemoryDatapath()
    reconciler = Reconciler(datapath)
    reconciler.reconcile(one_backend())
    before = datapath.observe()
    datapath.fail = failing_on(Table.VIPS)
    reconciler.reconcile(KernelState())
    after = datapath.observe()
    assert (after.vips, after.frontends, after.slots, after.backends, after.nexthops) == (
        before.vips,
        before.frontends,
        before.slots,
        before.backends,
        before.nexthops,
    )


def test_nothing_to_do_touches_nothing() -> None:
    datapath = MemoryDatapath()
    reconciler = Reconciler(datapath)
    desired = one_backend()
    reconciler.reconcile(desired)
    assert reconciler.reconcile(desired).applied == ()


def test_after_a_failure_the_tables_are_read_back() -> None:
    datapath = MemoryDatapath(failing_on(Table.VIPS))
    reconciler = Reconciler(datapath)
    desired = one_backend()
    reconciler.reconcile(desired)
    datapath.fail = healed
    elsewhere = Reconciler(datapath)
    elsewhere.reconcile(desired)
    assert reconciler.reconcile(desired).applied == ()


def test_rows_that_something_else_changed_are_seen_after_forgetting() -> None:
    datapath = MemoryDatapath()
    reconciler, desired = Reconciler(datapath), one_backend()
    reconciler.reconcile(desired)
    Reconciler(datapath).reconcile(replace(desired, vips={}))
    reconciler.forget()
    assert reconciler.reconcile(desired).applied
    assert datapath.observe().vips == desired.vips


def test_an_error_that_is_not_the_data_paths_is_not_swallowed() -> None:
    datapath = MemoryDatapath(lambda _: RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        Reconciler(datapath).reconcile(one_backend())
