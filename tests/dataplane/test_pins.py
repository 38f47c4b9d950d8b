"""Pins over the life and death of agents, namespaces and file systems."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from kernel_rig import Sets, add_veth, inside, namespace, netns, pins, sets
from sluicegate_agent.attach import Attachments
from sluicegate_agent.datapath.model import InterfaceIndex
from sluicegate_agent.kernel import bpffs, clsact
from sluicegate_agent.kernel.libbpf import AttachType, BpfMap, MapType, programs_at
from sluicegate_agent.loader.errors import LoaderError
from sluicegate_agent.loader.manifest import FORMAT
from sluicegate_agent.pins import AgentRunningError, Identity, Pins, _open_locked

pytestmark = pytest.mark.kernel
__all__ = ["netns", "pins", "sets"]

REAL_OPEN = os.open
HOLDER = """
import sys
from pathlib import Path
from sluicegate_agent.pins import Pins
with Pins(Path(sys.argv[1]), run_dir=Path(sys.argv[2])).lock():
    print("locked", flush=True)
    sys.stdin.read()
"""


class Holder:
    """Another process that holds the lock, until killed or let go."""

    def __init__(self, state: Path, run_dir: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(state), str(run_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "locked\n"

    def __enter__(self) -> Holder:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)


def keep_a_map(pins: Pins) -> Path:
    path = pins.maps / "rows-abc"
    with BpfMap.create(MapType.HASH, "rows", 4, 4, 4) as rows:
        rows.update(bytes(4), b"kept")
        rows.pin(path)
    return path


def test_an_empty_bpf_file_system_gets_its_directories(pins: Pins) -> None:
    pins.prepare()
    assert [path.is_dir() for path in (pins.maps, pins.programs, pins.links)] == [True] * 3
    pins.prepare()


def test_a_missing_bpf_file_system_is_mounted(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from sluicegate_agent.pins import Pins\n"
        "from sluicegate_agent.kernel import bpffs\n"
        "assert not bpffs.is_mounted()\n"
        "pins = Pins(Path(sys.argv[1]), run_dir=Path(sys.argv[1]))\n"
        "pins.prepare(); pins.prepare()\n"
        "assert bpffs.is_mounted() and pins.links.is_dir()\n"
        "assert pins.teardown() and not pins.root.exists()\n"
    )
    # A mount namespace of its own, without the BPF file system: as after boot, and as under `ip netns exec`.
    without = ("unshare", "--mount", "sh", "-c", 'umount -l /sys/fs/bpf; exec "$@"', "sh")
    done = subprocess.run(
        [*without, sys.executable, "-c", script, str(tmp_path / "state")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_pins_of_a_killed_agent_are_kept(pins: Pins) -> None:
    with Holder(pins.state_dir, pins.run_dir) as killed:
        killed.process.send_signal(signal.SIGKILL)
        killed.process.wait(timeout=30)
    with pins.lock():
        pins.prepare()
        path = keep_a_map(pins)
    with pins.lock():
        pins.prepare()
        with BpfMap.open(path) as rows:
            assert rows.lookup(bytes(4)) == b"kept"


@pytest.mark.parametrize("use_tcx", [True, False], ids=["tcx", "clsact"])
def test_pins_of_another_namespace_are_discarded_and_its_interface_set_free(
    pins: Pins, sets: Sets, caplog: pytest.LogCaptureFixture, use_tcx: bool
) -> None:
    with namespace() as first, namespace() as second:
        with inside(first):
            ifindex = add_veth("sgt0")
            pins.prepare()
            attachments = Attachments(pins, sets.now, use_tcx=use_tcx)
            attachments.attach(InterfaceIndex(ifindex), "sgt0", want_xdp=False)
            attachments.close()
        with inside(second), caplog.at_level("WARNING"):
            pins.prepare()
            assert list(pins.links.iterdir()) == []
            assert "another network namespace" in caplog.text
        with inside(first):
            assert (programs_at(ifindex, AttachType.TCX_INGRESS), clsact.filters(ifindex)) == ((), ())


def test_pins_of_a_newer_version_are_refused_and_left_as_they_are(pins: Pins) -> None:
    pins.prepare()
    path = keep_a_map(pins)
    pins.manifest_path.write_text(json.dumps({"format": FORMAT + 1}))
    with pytest.raises(LoaderError, match=rf"newer version \(format {FORMAT + 1}; this one knows {FORMAT}\)"):
        pins.prepare()
    assert path.exists()
    assert pins.manifest_path.exists()
    assert pins.teardown()


def test_pins_from_before_a_reboot_are_discarded(pins: Pins, monkeypatch: pytest.MonkeyPatch) -> None:
    pins.prepare()
    path = keep_a_map(pins)
    now = Identity.current()
    monkeypatch.setattr(Identity, "current", lambda: replace(now, boot="another"))
    pins.prepare()
    assert not path.exists()


def test_pins_of_unknown_origin_and_a_manifest_with_them_are_discarded(
    pins: Pins, sets: Sets, caplog: pytest.LogCaptureFixture
) -> None:
    pins.prepare()
    path = keep_a_map(pins)
    sets.now.save(pins.manifest_path)
    (pins.state_dir / "identity.json").write_text("{")
    with caplog.at_level("WARNING"):
        pins.prepare()
    assert "unknown network namespace" in caplog.text
    assert not path.exists()
    assert not pins.manifest_path.exists()


def test_a_second_agent_in_the_namespace_is_refused_with_the_firsts_process_id(pins: Pins, tmp_path: Path) -> None:
    with (
        Holder(tmp_path / "other", pins.run_dir) as other,
        pytest.raises(AgentRunningError, match=rf"this network namespace \(process {other.process.pid}\)"),
        pins.lock(),
    ):
        pass
    with pins.lock():
        pass


def test_a_second_agent_on_the_state_directory_is_refused_from_another_namespace_too(pins: Pins) -> None:
    with (
        Holder(pins.state_dir, pins.run_dir) as other,
        namespace() as elsewhere,
        inside(elsewhere),
        pytest.raises(AgentRunningError, match=rf"state directory .*state \(process {other.process.pid}\)"),
        pins.lock(),
    ):
        pass


def test_agents_of_two_namespaces_run_beside_each_other(pins: Pins, tmp_path: Path) -> None:
    with pins.lock(), namespace() as elsewhere, inside(elsewhere), Pins(tmp_path / "b", run_dir=pins.run_dir).lock():
        assert len(list(pins.run_dir.iterdir())) == 2
    assert list(pins.run_dir.iterdir()) == []


def test_a_lock_file_that_its_holder_removed_meanwhile_gives_no_lock(pins: Pins) -> None:
    pins.run_dir.mkdir()
    path = pins.run_dir / "x.lock"
    removed = os.open(path, os.O_RDWR | os.O_CREAT)
    opened = [removed]

    def open_once_stale(*arguments: object) -> int:
        if opened:
            stale = opened.pop()
            path.unlink()
            path.touch()
            return stale
        return REAL_OPEN(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", open_once_stale)
        descriptor = _open_locked(path, "a test")
    assert os.path.samestat(os.fstat(descriptor), path.stat())
    os.close(descriptor)


def test_teardown_detaches_and_removes_everything_and_may_be_repeated(netns: str, pins: Pins, sets: Sets) -> None:
    ifindex = add_veth("sgt0")
    pins.prepare()
    keep_a_map(pins)
    sets.now.save(pins.manifest_path)
    attachments = Attachments(pins, sets.now)
    assert attachments.attach(InterfaceIndex(ifindex), "sgt0", want_xdp=True).reason == ""
    # The descriptors stay open: a link that someone still holds is detached all the same.
    assert pins.teardown()
    assert programs_at(ifindex, AttachType.XDP) == programs_at(ifindex, AttachType.TCX_INGRESS) == ()
    assert not pins.root.exists()
    assert not pins.state_dir.exists()
    assert not pins.teardown()
    attachments.close()


def test_teardown_finds_a_filter_in_whichever_namespace_it_is(pins: Pins, sets: Sets) -> None:
    with namespace() as name, namespace():
        with inside(name):
            ifindex = add_veth("sgt0")
            pins.prepare()
            attachments = Attachments(pins, sets.now, use_tcx=False)
            attachments.attach(InterfaceIndex(ifindex), "sgt0", want_xdp=True)
            attachments.close()
        here = Identity.current()
        assert pins.teardown()
        assert Identity.current() == here
        with inside(name):
            assert (programs_at(ifindex, AttachType.XDP), clsact.filters(ifindex)) == ((), ())


@pytest.mark.parametrize("use_tcx", [True, False], ids=["tcx", "clsact"])
def test_teardown_works_when_the_namespace_is_gone(pins: Pins, sets: Sets, use_tcx: bool) -> None:
    with namespace() as name, inside(name):
        ifindex = add_veth("sgt0")
        pins.prepare()
        attachments = Attachments(pins, sets.now, use_tcx=use_tcx)
        attachments.attach(InterfaceIndex(ifindex), "sgt0", want_xdp=True)
        attachments.close()
    assert pins.teardown()
    assert not pins.root.exists()


def test_teardown_removes_pins_whose_state_directory_was_deleted(pins: Pins) -> None:
    pins.prepare()
    (pins.state_dir / "identity.json").unlink()
    pins.state_dir.rmdir()
    assert pins.teardown()
    assert not pins.root.exists()


def test_teardown_leaves_files_of_others_in_the_state_directory(pins: Pins) -> None:
    pins.prepare()
    (pins.state_dir / "notes").write_text("mine")
    assert pins.teardown()
    assert [path.name for path in pins.state_dir.iterdir()] == ["notes"]


def test_teardown_is_refused_while_an_agent_runs(pins: Pins) -> None:
    pins.prepare()
    with Holder(pins.state_dir, pins.run_dir) as other:
        with pytest.raises(AgentRunningError, match=f"process {other.process.pid}"):
            pins.teardown()
        assert pins.links.is_dir()
    assert pins.teardown()


def test_pruning_keeps_what_the_manifest_names_and_removes_the_rest(pins: Pins, sets: Sets) -> None:
    pins.prepare()
    unused = keep_a_map(pins)
    used = pins.maps / "used-abc"
    with BpfMap.create(MapType.HASH, "rows", 4, 4, 4) as rows:
        rows.pin(used)
    (pins.programs / "older").mkdir()
    (pins.programs / "now").mkdir()
    manifest = replace(
        sets.now,
        maps={"rows": replace(sets.now.maps["rows"], path=used)},
        programs={name: replace(row, path=pins.programs / "now" / name) for name, row in sets.now.programs.items()},
    )
    pins.prune(manifest)
    assert not unused.exists()
    assert used.exists()
    assert [path.name for path in pins.programs.iterdir()] == ["now"]


def test_two_state_directories_never_share_pins(tmp_path: Path) -> None:
    one, two = Pins(tmp_path / "a"), Pins(tmp_path / "b")
    assert one.root != two.root
    assert Pins(tmp_path / "b" / ".." / "a").root == one.root
    assert one.root.parent == bpffs.ROOT / "sluicegate"


def test_the_same_namespace_has_one_identity_by_whatever_name_it_is_entered(netns: str) -> None:
    here = Identity.current()
    with suppress(FileNotFoundError), inside(netns):
        assert Identity.current() == here
    with namespace() as other, inside(other):
        assert Identity.current() != here
