"""Our programs among those of others: order, ownership, and what is left when ours go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from kernel_rig import Sets, add_veth, netns, pins, run, sets
from sluicegate_agent.attach import AttachError, Attachments, Mode
from sluicegate_agent.datapath.model import InterfaceIndex
from sluicegate_agent.kernel import clsact
from sluicegate_agent.kernel.libbpf import XDP_GENERIC, AttachType, Link, Program, ProgramType, programs_at
from sluicegate_agent.pins import Pins
from sluicegate_agent.preflight.check import Probe
from sluicegate_agent.preflight.probes import interfaces, xdp_takes_fragments

pytestmark = pytest.mark.kernel
__all__ = ["netns", "pins", "sets"]

RETURN_0 = bytes.fromhex("b7000000000000009500000000000000")  # r0 = TC_ACT_OK; exit


@pytest.fixture
def attachments(netns: str, pins: Pins, sets: Sets) -> Iterator[Attachments]:
    pins.prepare()
    own = Attachments(pins, sets.now)
    yield own
    own.close()


@pytest.fixture
def veth(netns: str) -> InterfaceIndex:
    return InterfaceIndex(add_veth("sgt0"))


@pytest.fixture
def without_tcx(netns: str, pins: Pins, sets: Sets) -> Iterator[Attachments]:
    """As on kernels without tcx."""
    pins.prepare()
    own = Attachments(pins, sets.now, use_tcx=False)
    yield own
    own.close()


@pytest.fixture
def foreign() -> Iterator[Program]:
    """Somebody else's tc program."""
    with Program.load(ProgramType.SCHED_CLS, "foreign", RETURN_0) as program:
        yield program


def tc_id(sets: Sets) -> int:
    with Program.open(sets.now.programs["tc_ingress"].path) as program:
        return program.info.id


def add_foreign_filter(priority: int, side: str = "ingress") -> None:
    """By the tool that everybody uses, for the qdisc that is there already."""
    place = ("dev", "sgt0", side, "protocol", "ip", "prio", str(priority))
    run("tc", "filter", "add", *place, "u32", "match", "u32", "0", "0", "classid", "1:1")


def kinds(ifindex: int) -> list[tuple[str, int]]:
    return [(row.kind, row.priority) for row in clsact.filters(ifindex) if row.runs]


def has_qdisc() -> bool:
    return "clsact" in run("tc", "qdisc", "show", "dev", "sgt0")


def test_our_tcx_program_runs_before_those_that_were_there(
    attachments: Attachments, veth: InterfaceIndex, sets: Sets, foreign: Program
) -> None:
    with Link.create(foreign, veth, AttachType.TCX_INGRESS):
        attached = attachments.attach(veth, "sgt0", want_xdp=True)
        assert programs_at(veth, AttachType.TCX_INGRESS) == (tc_id(sets), foreign.info.id)
        assert (attached.mode, attached.reason) == (Mode.XDP, f"in tc ours runs before foreign (id {foreign.info.id})")
        attachments.detach(veth)
        assert programs_at(veth, AttachType.TCX_INGRESS) == (foreign.info.id,)
    assert attachments.attach(veth, "sgt0", want_xdp=True).reason == ""


def test_a_program_that_put_itself_before_ours_is_left_there_and_said(
    attachments: Attachments, veth: InterfaceIndex, sets: Sets, foreign: Program
) -> None:
    attachments.attach(veth, "sgt0", want_xdp=False, why_not_xdp="a bridge")
    with Link.create(foreign, veth, AttachType.TCX_INGRESS, 1 << 3):
        assert attachments.observed()[veth].reason == (
            f"a bridge; in tc ours runs after foreign (id {foreign.info.id}), which may keep packets from it"
        )
        attachments.update_all(sets.later)
        assert programs_at(veth, AttachType.TCX_INGRESS)[0] == foreign.info.id


def test_filters_of_others_run_after_our_tcx_program_and_stay(attachments: Attachments, veth: InterfaceIndex) -> None:
    run("tc", "qdisc", "add", "dev", "sgt0", "clsact")
    add_foreign_filter(1)
    attached = attachments.attach(veth, "sgt0", want_xdp=True)
    assert attached.reason == "in tc ours runs before a u32 filter"
    attachments.detach(veth)
    assert kinds(veth) == [("u32", 1)]


def test_our_filter_runs_before_those_of_others_and_leaves_them_and_their_qdisc(
    without_tcx: Attachments, veth: InterfaceIndex, pins: Pins
) -> None:
    run("tc", "qdisc", "add", "dev", "sgt0", "clsact")
    add_foreign_filter(2)
    attached = without_tcx.attach(veth, "sgt0", want_xdp=True)
    assert attached.reason == "in tc ours runs before a u32 filter"
    assert kinds(veth) == [("bpf", clsact.PRIORITY), ("u32", 2)]
    without_tcx.detach(veth)
    assert kinds(veth) == [("u32", 2)]
    assert list(pins.links.iterdir()) == []


def test_a_qdisc_of_others_stays_even_when_it_is_empty(without_tcx: Attachments, veth: InterfaceIndex) -> None:
    run("tc", "qdisc", "add", "dev", "sgt0", "clsact")
    without_tcx.attach(veth, "sgt0", want_xdp=True)
    without_tcx.detach(veth)
    assert has_qdisc()


@pytest.mark.parametrize("side", ["ingress", "egress"])
def test_our_qdisc_goes_with_our_filter_unless_others_use_it_by_now(
    without_tcx: Attachments, veth: InterfaceIndex, side: str
) -> None:
    without_tcx.attach(veth, "sgt0", want_xdp=True)
    add_foreign_filter(7, side)
    without_tcx.detach(veth)
    assert has_qdisc()
    run("tc", "filter", "del", "dev", "sgt0", side, "prio", "7")
    run("tc", "qdisc", "del", "dev", "sgt0", "clsact")
    without_tcx.attach(veth, "sgt0", want_xdp=True)
    without_tcx.detach(veth)
    assert not has_qdisc()


def test_the_older_ingress_qdisc_takes_our_filter_too(without_tcx: Attachments, veth: InterfaceIndex) -> None:
    run("tc", "qdisc", "add", "dev", "sgt0", "ingress")
    assert without_tcx.attach(veth, "sgt0", want_xdp=True).reason == ""
    assert kinds(veth) == [("bpf", clsact.PRIORITY)]
    without_tcx.detach(veth)
    assert "ingress" in run("tc", "qdisc", "show", "dev", "sgt0")


def test_a_place_that_another_kind_of_filter_took_is_named_and_left_to_it(
    without_tcx: Attachments, veth: InterfaceIndex, pins: Pins
) -> None:
    run("tc", "qdisc", "add", "dev", "sgt0", "clsact")
    add_foreign_filter(1)
    with pytest.raises(AttachError, match=r"priority 1 of the tc filters of sgt0 is taken \(u32 filter\)"):
        without_tcx.attach(veth, "sgt0", want_xdp=True)
    assert kinds(veth) == [("u32", 1)]
    assert (list(pins.links.iterdir()), without_tcx.observed()) == ([], {})
    run("tc", "filter", "del", "dev", "sgt0", "ingress", "prio", "1")
    assert without_tcx.attach(veth, "sgt0", want_xdp=True).mode is Mode.XDP


def test_the_filter_of_another_state_directory_is_not_taken_for_ours(
    without_tcx: Attachments, veth: InterfaceIndex, pins: Pins, foreign: Program
) -> None:
    clsact.add_qdisc(veth)
    clsact.add_filter(veth, foreign, "sluicegate-0123456789abcdef")
    with pytest.raises(AttachError, match=r"is taken \(bpf sluicegate-0123456789abcdef\)"):
        without_tcx.attach(veth, "sgt0", want_xdp=True)
    (pins.links / f"{veth}-filter").mkdir()
    without_tcx.adopt()
    assert [row.program_id for row in clsact.filters(veth)] == [foreign.info.id]
    assert list(pins.links.iterdir()) == []


def test_a_bpf_filter_of_others_at_our_priority_stays_beside_ours(
    without_tcx: Attachments, veth: InterfaceIndex, foreign: Program
) -> None:
    without_tcx.attach(veth, "sgt0", want_xdp=True)
    with ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(clsact, "HANDLE", 1)
        clsact.add_filter(veth, foreign, "theirs")
    assert "foreign (id" in without_tcx.observed()[veth].reason
    without_tcx.detach(veth)
    assert [row.name for row in clsact.filters(veth)] == ["theirs"]


def test_our_filter_whose_mark_was_lost_is_taken_over(
    without_tcx: Attachments, veth: InterfaceIndex, pins: Pins, sets: Sets, foreign: Program
) -> None:
    clsact.add_qdisc(veth)
    clsact.add_filter(veth, foreign, f"sluicegate-{pins.root.name}")
    without_tcx.attach(veth, "sgt0", want_xdp=True)
    assert [row.program_id for row in clsact.filters(veth)] == [tc_id(sets)]


def test_programs_attached_in_one_way_stay_so_when_the_next_agent_prefers_the_other(
    attachments: Attachments, veth: InterfaceIndex, pins: Pins, sets: Sets
) -> None:
    attachments.attach(veth, "sgt0", want_xdp=True)
    attachments.close()
    following = Attachments(pins, sets.now, use_tcx=False)
    following.adopt()
    assert following.attach(veth, "sgt0", want_xdp=True).mode is Mode.XDP
    assert (programs_at(veth, AttachType.TCX_INGRESS), kinds(veth)) == ((tc_id(sets),), [])
    following.close()


def test_a_foreign_xdp_program_in_generic_mode_is_left_alone_and_said(
    attachments: Attachments, veth: InterfaceIndex, sets: Sets
) -> None:
    with Program.open(sets.later.programs["xdp_main"].path) as foreign:
        with Link.create(foreign, veth, AttachType.XDP, XDP_GENERIC):
            attached = attachments.attach(veth, "sgt0", want_xdp=True)
            assert attached.mode is Mode.TC
            assert attached.reason.endswith(f"left alone: xdp_main (id {foreign.info.id}) in generic mode")
            assert programs_at(veth, AttachType.XDP) == (foreign.info.id,)
        assert attachments.attach(veth, "sgt0", want_xdp=True).mode is Mode.XDP


@pytest.mark.parametrize("use_tcx", [True, False])
def test_the_preflight_names_all_programs_on_an_interface_in_their_order(
    netns: str, pins: Pins, sets: Sets, veth: InterfaceIndex, foreign: Program, use_tcx: bool
) -> None:
    pins.prepare()
    own = Attachments(pins, sets.now, use_tcx=use_tcx)
    own.attach(veth, "sgt0", want_xdp=True)
    with Link.create(foreign, veth, AttachType.TCX_INGRESS):
        (found,) = [card for card in interfaces() if card.name == "sgt0"]
    ours = f"tc tc_ingress (id {tc_id(sets)})"
    theirs = f"tc foreign (id {foreign.info.id})"
    (xdp,) = programs_at(veth, AttachType.XDP)
    in_tc = (ours, theirs) if use_tcx else (theirs, ours)
    assert found.programs == (f"XDP xdp_main (id {xdp}) in the driver", *in_tc)
    own.close()


def test_this_kernel_takes_frames_in_several_buffers(attachments: Attachments, veth: InterfaceIndex) -> None:
    assert xdp_takes_fragments() == Probe()
    for name in ("sgt0", "sgt0p"):
        run("ip", "link", "set", name, "mtu", "9000")
    assert attachments.attach(veth, "sgt0", want_xdp=True).mode is Mode.XDP
