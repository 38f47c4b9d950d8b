"""tc programs as classic filters, as on kernels without tcx."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from kernel_rig import Sets, add_veth, netns, pins, run, sets
from sluicegate_agent.attach import AttachError, Attachments, Mode
from sluicegate_agent.datapath.model import InterfaceIndex
from sluicegate_agent.kernel import clsact
from sluicegate_agent.kernel.libbpf import Program
from sluicegate_agent.loader.manifest import Manifest
from sluicegate_agent.pins import Pins

pytestmark = pytest.mark.kernel
__all__ = ["netns", "pins", "sets"]


@pytest.fixture
def attachments(netns: str, pins: Pins, sets: Sets) -> Iterator[Attachments]:
    pins.prepare()
    own = Attachments(pins, sets.now, use_tcx=False)
    yield own
    own.close()


@pytest.fixture
def veth(netns: str) -> InterfaceIndex:
    return InterfaceIndex(add_veth("sgt0"))


def tc_program(manifest: Manifest) -> int:
    with Program.open(manifest.programs["tc_ingress"].path) as program:
        return program.info.id


def at_our_place(ifindex: int) -> list[int]:
    return [row.program_id for row in clsact.filters(ifindex) if row.at_our_place]


def qdiscs() -> str:
    return run("tc", "qdisc", "show", "dev", "sgt0")


def add_foreign_filter(manifest: Manifest) -> None:
    program = str(manifest.programs["tc_ingress"].path)
    run("tc", "filter", "add", "dev", "sgt0", "ingress", "prio", "7", "bpf", "da", "object-pinned", program)


def test_the_filter_stands_beside_xdp(attachments: Attachments, veth: InterfaceIndex, pins: Pins, sets: Sets) -> None:
    attached = attachments.attach(veth, "sgt0", want_xdp=True)

    assert attached.mode is Mode.XDP
    assert attachments.observed() == {veth: attached}
    assert at_our_place(veth) == [tc_program(sets.now)]
    assert attachments.attach(veth, "sgt0", want_xdp=True) == attached
    marks = [f"{veth}-filter", f"{veth}-outfilter", f"{veth}-qdisc", f"{veth}-xdp"]
    assert sorted(path.name for path in pins.links.iterdir()) == marks


def test_the_next_agent_adopts_the_filter_and_moves_it_to_new_programs(
    attachments: Attachments, veth: InterfaceIndex, pins: Pins, sets: Sets
) -> None:
    attachments.attach(veth, "sgt0", want_xdp=True)
    attachments.close()

    following = Attachments(pins, sets.now, use_tcx=False)
    following.adopt()
    assert set(following.observed()) == {veth}
    following.update_all(sets.later)

    assert at_our_place(veth) == [tc_program(sets.later)]
    following.close()


def test_detaching_leaves_nothing(attachments: Attachments, veth: InterfaceIndex, pins: Pins) -> None:
    attachments.attach(veth, "sgt0", want_xdp=True)
    attachments.detach(veth)

    assert "clsact" not in qdiscs()
    assert list(pins.links.iterdir()) == []


def test_foreign_filters_and_their_qdisc_stay(attachments: Attachments, veth: InterfaceIndex, sets: Sets) -> None:
    clsact.add_qdisc(veth)
    add_foreign_filter(sets.later)
    attachments.attach(veth, "sgt0", want_xdp=False)
    attachments.detach(veth)

    assert "clsact" in qdiscs()
    assert [row.priority for row in clsact.filters(veth)] == [7]


def test_a_foreign_filter_that_came_later_keeps_our_qdisc(
    attachments: Attachments, veth: InterfaceIndex, sets: Sets
) -> None:
    attachments.attach(veth, "sgt0", want_xdp=False)
    add_foreign_filter(sets.later)
    attachments.detach(veth)

    assert [row.priority for row in clsact.filters(veth)] == [7]


def test_a_filter_that_somebody_removed_is_put_back(attachments: Attachments, veth: InterfaceIndex, sets: Sets) -> None:
    attachments.attach(veth, "sgt0", want_xdp=False)
    run("tc", "qdisc", "del", "dev", "sgt0", "clsact")
    assert attachments.observed() == {}

    attachments.attach(veth, "sgt0", want_xdp=False)

    assert at_our_place(veth) == [tc_program(sets.now)]


def test_marks_of_an_interface_that_is_gone_are_removed(
    attachments: Attachments, veth: InterfaceIndex, pins: Pins, sets: Sets
) -> None:
    attachments.attach(veth, "sgt0", want_xdp=True)
    run("ip", "link", "del", "sgt0")
    attachments.close()

    following = Attachments(pins, sets.now, use_tcx=False)
    following.adopt()

    assert following.observed() == {}
    assert list(pins.links.iterdir()) == []
    following.close()


def test_a_place_that_is_taken_is_named(attachments: Attachments, veth: InterfaceIndex, sets: Sets) -> None:
    clsact.add_qdisc(veth)
    with Program.open(sets.later.programs["tc_ingress"].path) as foreign:
        clsact.add_filter(veth, foreign, "somebody")
        with pytest.raises(AttachError, match="tc filter show dev sgt0 ingress"):
            attachments.attach(veth, "sgt0", want_xdp=False)
        assert at_our_place(veth) == [foreign.info.id]


def test_teardown_removes_the_filter(attachments: Attachments, veth: InterfaceIndex, pins: Pins) -> None:
    attachments.attach(veth, "sgt0", want_xdp=True)
    attachments.close()

    assert pins.teardown()

    assert "clsact" not in qdiscs()


def test_a_kernel_without_tcx_gets_a_filter(
    netns: str, pins: Pins, sets: Sets, veth: InterfaceIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluicegate_agent.attach.tcx_refusal", lambda: errno.EINVAL)
    pins.prepare()
    own = Attachments(pins, sets.now)

    own.attach(veth, "sgt0", want_xdp=False)

    assert at_our_place(veth) == [tc_program(sets.now)]
    own.close()
