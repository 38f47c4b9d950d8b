"""The program on an interface's way out: it comes, changes and goes with the one at ingress."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kernel_rig import Sets, add_veth, netns, pins, sets
from sluicegate_agent.attach import AttachError, Attachments
from sluicegate_agent.datapath.model import InterfaceIndex
from sluicegate_agent.kernel import clsact
from sluicegate_agent.kernel.libbpf import AttachType, Link, Program, programs_at
from sluicegate_agent.kernel.tc import detach_pinned
from sluicegate_agent.loader.manifest import Manifest
from sluicegate_agent.pins import Pins

pytestmark = pytest.mark.kernel
__all__ = ["netns", "pins", "sets"]


@pytest.fixture(params=[None, False], ids=["tcx", "clsact"])
def way(request: pytest.FixtureRequest) -> bool | None:
    """As the kernel has it, or by filters."""
    value: bool | None = request.param
    return value


@pytest.fixture
def attachments(netns: str, pins: Pins, sets: Sets, way: bool | None) -> Iterator[Attachments]:
    pins.prepare()
    own = Attachments(pins, sets.now, use_tcx=way)
    yield own
    own.close()


@pytest.fixture
def veth(netns: str) -> InterfaceIndex:
    return InterfaceIndex(add_veth("sgt0"))


def program_id(manifest: Manifest) -> int:
    with Program.open(manifest.programs["tc_egress"].path) as program:
        return program.info.id


def running(ifindex: int) -> list[int]:
    filters = [row.program_id for row in clsact.filters(ifindex, clsact.Side.EGRESS)]
    return [*programs_at(ifindex, AttachType.TCX_EGRESS), *filters]


def test_it_is_attached_updated_and_detached(attachments: Attachments, veth: InterfaceIndex, sets: Sets) -> None:
    attachments.attach(veth, "sgt0", want_xdp=True)
    attachments.attach(veth, "sgt0", want_xdp=True)
    assert running(veth) == [program_id(sets.now)]
    attachments.update_all(sets.later)
    assert running(veth) == [program_id(sets.later)]
    attachments.detach(veth)
    assert running(veth) == []


def test_the_next_agent_takes_it_up(
    attachments: Attachments, veth: InterfaceIndex, pins: Pins, sets: Sets, way: bool | None
) -> None:
    attachments.attach(veth, "sgt0", want_xdp=False)
    attachments.close()
    following = Attachments(pins, sets.now, use_tcx=way)
    following.adopt()
    following.detach(veth)
    assert running(veth) == []
    assert list(pins.links.iterdir()) == []
    following.close()


def test_an_interface_of_a_version_without_it_gets_it(
    attachments: Attachments, veth: InterfaceIndex, pins: Pins, sets: Sets, way: bool | None
) -> None:
    attachments.attach(veth, "sgt0", want_xdp=False)
    attachments.close()
    if way is None:
        detach_pinned(pins.links / f"{veth}-egress")
    else:
        clsact.remove_filter(veth, clsact.Side.EGRESS)
    following = Attachments(pins, sets.now, use_tcx=way)
    following.adopt()
    assert running(veth) == []
    following.attach(veth, "sgt0", want_xdp=False)
    assert running(veth) == [program_id(sets.now)]
    following.close()


def test_teardown_leaves_nothing(attachments: Attachments, veth: InterfaceIndex, pins: Pins) -> None:
    attachments.attach(veth, "sgt0", want_xdp=True)
    attachments.close()
    assert pins.teardown()
    assert running(veth) == []


def test_a_place_that_is_taken_on_the_way_out_is_named(
    netns: str, pins: Pins, veth: InterfaceIndex, sets: Sets
) -> None:
    pins.prepare()
    clsact.add_qdisc(veth)
    own = Attachments(pins, sets.now, use_tcx=False)
    with Program.open(sets.later.programs["tc_egress"].path) as foreign:
        clsact.add_filter(veth, foreign, "somebody", clsact.Side.EGRESS)
        with pytest.raises(AttachError, match="tc filter show dev sgt0 egress"):
            own.attach(veth, "sgt0", want_xdp=False)
        assert running(veth) == [foreign.info.id]
    own.close()


def test_the_order_among_others_on_the_way_out_is_told(
    netns: str, pins: Pins, veth: InterfaceIndex, sets: Sets
) -> None:
    pins.prepare()
    own = Attachments(pins, sets.now)
    with (
        Program.open(sets.later.programs["tc_egress"].path) as theirs,
        Link.create(theirs, veth, AttachType.TCX_EGRESS),
    ):
        attached = own.attach(veth, "sgt0", want_xdp=False, why_not_xdp="as asked")
        assert attached.reason == f"as asked; in tc egress ours runs before tc_egress (id {theirs.info.id})"
        assert running(veth) == [program_id(sets.now), theirs.info.id]
    own.close()
