"""Links on interfaces that come, go, change and are used by others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from kernel_rig import Sets, add_veth, index_of, inside, namespace, netns, pins, run, sets
from sluicegate_agent.attach import Attachments, InterfaceGoneError, Mode
from sluicegate_agent.datapath.model import InterfaceIndex
from sluicegate_agent.kernel.libbpf import AttachType, BpfMap, Link, MapType, Program, programs_at
from sluicegate_agent.loader.manifest import Manifest
from sluicegate_agent.pins import Pins

pytestmark = pytest.mark.kernel
__all__ = ["netns", "pins", "sets"]


@pytest.fixture
def attachments(netns: str, pins: Pins, sets: Sets) -> Iterator[Attachments]:
    pins.prepare()
    own = Attachments(pins, sets.now)
    yield own
    own.close()


@pytest.fixture
def veth(netns: str) -> InterfaceIndex:
    return InterfaceIndex(add_veth("sgt0"))


def restarted(attachments: Attachments, pins: Pins, manifest: Manifest) -> Attachments:
    """What the next agent sees."""
    attachments.close()
    following = Attachments(pins, manifest)
    following.adopt()
    return following


def program_ids(manifest: Manifest) -> tuple[int, int]:
    with (
        Program.open(manifest.programs["xdp_main"].path) as xdp,
        Program.open(manifest.programs["tc_ingress"].path) as tc,
    ):
        return xdp.info.id, tc.info.id


def running(ifindex: int) -> tuple[frozenset[int], frozenset[int]]:
    return frozenset(programs_at(ifindex, AttachType.XDP)), frozenset(programs_at(ifindex, AttachType.TCX_INGRESS))


def test_both_hooks_are_attached_where_the_driver_takes_xdp(
    attachments: Attachments, veth: InterfaceIndex, pins: Pins, sets: Sets
) -> None:
    attached = attachments.attach(veth, "sgt0", want_xdp=True)
    assert (attached.mode, attached.reason, attached.program) == (Mode.XDP, "", "xdp_main")
    xdp, tc = program_ids(sets.now)
    assert running(veth) == ({xdp}, {tc})
    assert sorted(path.name for path in pins.links.iterdir()) == [f"{veth}-egress", f"{veth}-tc", f"{veth}-xdp"]
    assert attachments.observed() == {veth: attached}


def test_xdp_that_is_not_wanted_is_left_out_with_the_reason(attachments: Attachments, veth: InterfaceIndex) -> None:
    attached = attachments.attach(veth, "sgt0", want_xdp=False, why_not_xdp="it is a bridge")
    assert (attached.mode, attached.reason, attached.program) == (Mode.TC, "it is a bridge", "tc_ingress")
    assert running(veth)[0] == set()


def test_attaching_again_changes_nothing(attachments: Attachments, veth: InterfaceIndex, pins: Pins) -> None:
    first = attachments.attach(veth, "sgt0", want_xdp=True)
    ids = [Link.open(path).info.id for path in sorted(pins.links.iterdir())]
    assert attachments.attach(veth, "sgt0", want_xdp=True) == first
    assert [Link.open(path).info.id for path in sorted(pins.links.iterdir())] == ids


def test_xdp_follows_what_is_wanted_while_tc_stays(attachments: Attachments, veth: InterfaceIndex, pins: Pins) -> None:
    attachments.attach(veth, "sgt0", want_xdp=True)
    with Link.open(pins.links / f"{veth}-tc") as link:
        before = link.info.id
    assert attachments.attach(veth, "sgt0", want_xdp=False).mode is Mode.TC
    assert running(veth)[0] == set()
    assert attachments.attach(veth, "sgt0", want_xdp=True).mode is Mode.XDP
    with Link.open(pins.links / f"{veth}-tc") as link:
        assert link.info.id == before


def test_a_driver_without_native_xdp_means_tc_with_a_reason(attachments: Attachments) -> None:
    run("ip", "link", "add", "sgt1", "type", "bridge")
    attached = attachments.attach(InterfaceIndex(index_of("sgt1")), "sgt1", want_xdp=True)
    assert (attached.mode, attached.reason) == (Mode.TC, "its driver has no native XDP")


def test_a_foreign_xdp_program_is_left_alone(attachments: Attachments, veth: InterfaceIndex, sets: Sets) -> None:
    with Program.open(sets.later.programs["xdp_main"].path) as foreign, Link.create(foreign, veth, AttachType.XDP):
        attached = attachments.attach(veth, "sgt0", want_xdp=True)
        assert (attached.mode, attached.reason) == (
            Mode.TC,
            f"another XDP program is attached and left alone: xdp_main (id {foreign.info.id}) in the driver",
        )
        assert running(veth)[0] == {foreign.info.id}
    assert attachments.attach(veth, "sgt0", want_xdp=True).mode is Mode.XDP


def test_a_foreign_tc_program_stays_beside_ours(attachments: Attachments, veth: InterfaceIndex, sets: Sets) -> None:
    with (
        Program.open(sets.later.programs["tc_ingress"].path) as foreign,
        Link.create(foreign, veth, AttachType.TCX_INGRESS),
    ):
        attachments.attach(veth, "sgt0", want_xdp=False)
        attachments.detach(veth)
        assert running(veth)[1] == {foreign.info.id}


def test_an_interface_that_does_not_exist_yet_is_named_and_works_once_it_does(attachments: Attachments) -> None:
    with pytest.raises(InterfaceGoneError, match=r"no interface sgt7 \(index 4711\) here"):
        attachments.attach(InterfaceIndex(4711), "sgt7", want_xdp=True)
    assert attachments.observed() == {}
    add_veth("sgt7", "index", "4711")
    assert attachments.attach(InterfaceIndex(4711), "sgt7", want_xdp=True).name == "sgt7"


def test_an_interface_that_goes_away_is_no_longer_observed(attachments: Attachments, veth: InterfaceIndex) -> None:
    attachments.attach(veth, "sgt0", want_xdp=True)
    run("ip", "link", "del", "sgt0")
    assert attachments.observed() == {}
    attachments.detach(veth)
    attachments.detach(veth)


def test_an_interface_that_comes_back_with_another_index_is_attached_anew(
    attachments: Attachments, veth: InterfaceIndex, pins: Pins
) -> None:
    attachments.attach(veth, "sgt0", want_xdp=True)
    run("ip", "link", "del", "sgt0")
    again = InterfaceIndex(add_veth("sgt0", "index", str(veth + 100)))
    attachments.detach(veth)
    attached = attachments.attach(again, "sgt0", want_xdp=True)
    assert attachments.observed() == {again: attached}
    assert sorted(path.name for path in pins.links.iterdir()) == [f"{again}-egress", f"{again}-tc", f"{again}-xdp"]


def test_another_interface_under_the_same_index_is_attached_anew(
    attachments: Attachments, veth: InterfaceIndex, sets: Sets
) -> None:
    attachments.attach(veth, "sgt0", want_xdp=True)
    run("ip", "link", "del", "sgt0")
    add_veth("sgt9", "index", str(veth))
    attached = attachments.attach(veth, "sgt9", want_xdp=True)
    assert (attached.name, attached.mode) == ("sgt9", Mode.XDP)
    xdp, tc = program_ids(sets.now)
    assert running(veth) == ({xdp}, {tc})


def test_the_next_agent_adopts_the_links_without_touching_them(
    attachments: Attachments, veth: InterfaceIndex, pins: Pins, sets: Sets
) -> None:
    attachments.attach(veth, "sgt0", want_xdp=True)
    with Link.open(pins.links / f"{veth}-xdp") as link:
        before = link.info
    following = restarted(attachments, pins, sets.now)
    assert [(row.name, row.mode) for row in following.observed().values()] == [("sgt0", Mode.XDP)]
    assert following.attach(veth, "sgt0", want_xdp=True).mode is Mode.XDP
    with Link.open(pins.links / f"{veth}-xdp") as link:
        assert link.info == before
    following.close()


def test_the_next_agent_lets_go_of_links_whose_interface_is_gone_or_another_one(
    attachments: Attachments, veth: InterfaceIndex, pins: Pins, sets: Sets
) -> None:
    kept = InterfaceIndex(add_veth("sgt1"))
    for ifindex, name in ((veth, "sgt0"), (kept, "sgt1")):
        attachments.attach(ifindex, name, want_xdp=True)
    run("ip", "link", "del", "sgt0")
    add_veth("sgt9", "index", str(veth))
    following = restarted(attachments, pins, sets.now)
    assert set(following.observed()) == {kept}
    assert sorted(path.name for path in pins.links.iterdir()) == [f"{kept}-egress", f"{kept}-tc", f"{kept}-xdp"]
    following.close()


def test_the_next_agent_lets_go_of_an_interface_that_moved_to_another_namespace(
    attachments: Attachments, veth: InterfaceIndex, pins: Pins, sets: Sets
) -> None:
    attachments.attach(veth, "sgt0", want_xdp=True)
    with namespace() as elsewhere:
        run("ip", "link", "set", "sgt0", "netns", elsewhere)
        add_veth("sgt9", "index", str(veth))
        following = restarted(attachments, pins, sets.now)
        assert following.observed() == {}
        with inside(elsewhere):
            assert running(index_of("sgt0")) == (set(), set())
        following.close()


def test_xdp_without_its_companion_is_what_a_kill_between_two_steps_leaves_and_is_removed(
    attachments: Attachments, veth: InterfaceIndex, pins: Pins, sets: Sets
) -> None:
    attachments.attach(veth, "sgt0", want_xdp=True)
    attachments.close()
    (pins.links / f"{veth}-tc").unlink()
    following = restarted(attachments, pins, sets.now)
    assert following.observed() == {}
    assert running(veth) == (set(), set())
    following.close()


def test_a_file_that_is_no_link_is_removed(attachments: Attachments, pins: Pins, sets: Sets) -> None:
    with Program.open(sets.now.programs["tc_ingress"].path) as program:
        program.pin(pins.links / "7-tc")
        program.pin(pins.links / "stray")
    attachments.adopt()
    assert list(pins.links.iterdir()) == []


def test_all_links_move_to_a_new_set_of_programs_and_stay_the_same_links(
    attachments: Attachments, veth: InterfaceIndex, pins: Pins, sets: Sets
) -> None:
    attachments.attach(veth, "sgt0", want_xdp=True)
    with Link.open(pins.links / f"{veth}-xdp") as link:
        before = link.info.id
        attachments.update_all(sets.later)
        assert link.info.id == before
    xdp, tc = program_ids(sets.later)
    assert running(veth) == ({xdp}, {tc})
    assert attachments.attach(InterfaceIndex(add_veth("sgt1")), "sgt1", want_xdp=True).mode is Mode.XDP
    assert running(index_of("sgt1")) == ({xdp}, {tc})


def test_rows_that_a_replaced_map_got_until_the_links_moved_are_taken_over(
    attachments: Attachments, pins: Pins, sets: Sets
) -> None:
    layout = sets.later.maps["rows"]
    assert layout.path is not None
    old = replace(layout, path=pins.maps / "rows-old")
    with (
        BpfMap.create(MapType.HASH, "rows", 4, layout.value_dtype.itemsize, 4) as before,
        BpfMap.open(layout.path) as after,
    ):
        before.pin(pins.maps / "rows-old")
        before.update(b"late", bytes(layout.value_dtype.itemsize))
        attachments.update_all(replace(sets.later, replaced={"rows": old}))
        assert after.delete(b"late")


def test_an_interface_that_goes_away_does_not_stop_the_update_of_the_others(
    attachments: Attachments, veth: InterfaceIndex, sets: Sets
) -> None:
    other = InterfaceIndex(add_veth("sgt1"))
    for ifindex, name in ((veth, "sgt0"), (other, "sgt1")):
        attachments.attach(ifindex, name, want_xdp=True)
    run("ip", "link", "del", "sgt0")
    attachments.update_all(sets.later)
    xdp, tc = program_ids(sets.later)
    assert running(other) == ({xdp}, {tc})
    assert set(attachments.observed()) == {other}


def test_another_process_replaces_the_programs_through_the_pinned_links(
    attachments: Attachments, veth: InterfaceIndex, pins: Pins, sets: Sets
) -> None:
    attachments.attach(veth, "sgt0", want_xdp=True)
    sets.later.save(pins.manifest_path)
    script = (
        "import sys; from pathlib import Path\n"
        "from sluicegate_agent.attach import Attachments\n"
        "from sluicegate_agent.loader.manifest import Manifest\n"
        "from sluicegate_agent.pins import Pins\n"
        "pins = Pins(Path(sys.argv[1])); manifest = Manifest.read(pins.manifest_path)\n"
        "links = Attachments(pins, manifest); links.adopt(); links.update_all(manifest)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(pins.state_dir)], check=True, timeout=30)
    xdp, tc = program_ids(sets.later)
    assert running(veth) == ({xdp}, {tc})
