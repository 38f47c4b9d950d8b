"""What the demo's second act is made of, and the second and the third act themselves on a short clock."""

from __future__ import annotations

import os
import re
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sluicegate_agent.lab.demo import inspection, weights
from sluicegate_agent.lab.demo.inspection_script import SIGNATURE, SITES
from sluicegate_agent.lab.demo.place import PREFIX, remove_leftovers
from sluicegate_agent.lab.demo.screen import Frame
from sluicegate_agent.lab.demo.weights_script import CORES, FAILING, STATIC, Phase
from sluicegate_agent.lab.namespace import NETNS_DIRECTORY, LabError, Namespace
from sluicegate_agent.lab.outcomes import Outcome, figures
from sluicegate_agent.lab.processes import EmulatedServer, OpenLoopProcess, emulated_servers
from sluicegate_agent.lab.rig import Rig, RigOptions, rig
from sluicegate_agent.lab.wire import target

pytestmark = [pytest.mark.lab, pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")]

LARGEST_PID = 2**22  # of 64-bit Linux: no process has a larger one


class Loaded:
    """Two emulated servers on one host under the same load, without a balancer."""

    def __init__(self, built: Rig, servers: dict[str, EmulatedServer]) -> None:
        self.host = built.backends[0]
        self.servers = servers
        sides = {side: target(self.host.address4, server.port) for side, server in servers.items()}
        self.load = OpenLoopProcess(built.client, sides, rate=100, work=0.002, timeout=1.0)

    def until(self, what: str, holds: Callable[[list[Outcome]], bool], seconds: float = 20.0) -> list[Outcome]:
        """Gather outcomes until they are as wanted."""
        seen: list[Outcome] = []
        deadline = time.monotonic() + seconds
        while not holds(seen):
            if time.monotonic() > deadline:
                raise LabError(f"no sign within {seconds:g} s that {what}: {figures(seen)}")
            time.sleep(0.05)
            seen += self.load.take()
        return seen


@pytest.fixture
def loaded() -> Iterator[Loaded]:
    with rig(RigOptions(backends=1), prefix="sgt") as built:
        host = built.backends[0]
        servers = {"one": EmulatedServer(host, cores=1, port=8081), "two": EmulatedServer(host, cores=1, port=8082)}
        with emulated_servers(servers.values()):
            yield Loaded(built, servers)


def failed(outcomes: list[Outcome], side: str) -> set[str]:
    return {one.failure for one in outcomes if one.side == side and one.failure}


def test_both_sides_get_the_same_requests_at_the_same_times(loaded: Loaded) -> None:
    seen = loaded.until("a hundred requests ended", lambda seen: len(seen) >= 100)
    seen += loaded.load.finish()
    planned = [sorted(one.planned for one in seen if one.side == side) for side in ("one", "two")]
    assert planned[0] == planned[1]
    assert not failed(seen, "one") | failed(seen, "two")
    assert all(one.lag >= 0 and one.ended > one.planned for one in seen)


def test_a_black_hole_resets_requests_and_passes_a_check_of_its_port(loaded: Loaded) -> None:
    loaded.servers["one"].command("hole")
    seen = loaded.until("requests are reset", lambda seen: bool(failed(seen, "one")))
    with loaded.host.namespace.inside():
        look = socket.create_connection((str(loaded.host.address4), 8081), 5)
    look.close()
    loaded.servers["one"].command("serve")
    loaded.until("requests are answered again", lambda seen: bool(seen) and not failed(seen[-20:], "one"))
    assert failed(seen, "one") == {"reset"}
    assert failed(seen, "two") == set()


def test_a_server_that_stands_still_fails_its_own_requests_only(loaded: Loaded) -> None:
    loaded.servers["two"].command("speed 1e-9")
    seen = loaded.until("requests fail", lambda seen: bool(failed(seen, "two")))
    seen += loaded.load.finish()
    assert failed(seen, "two") == {"timeout"}
    assert failed(seen, "one") == set()


def test_a_server_refuses_what_it_does_not_know(loaded: Loaded) -> None:
    with pytest.raises(LabError, match="answers 'bad' to 'explode'"):
        loaded.servers["one"].command("explode")


def test_what_a_killed_demo_left_behind_is_removed() -> None:
    dead = f"{PREFIX}-{LARGEST_PID + 1}"
    left, directory = Namespace(f"{dead}-abcd-lb"), Path(tempfile.gettempdir(), f"{dead}-abcd")
    left.create()
    try:
        directory.mkdir()
        remove_leftovers()
        assert not (NETNS_DIRECTORY / left.name).exists()
        assert not directory.exists()
    finally:
        left.delete()
        if directory.exists():
            directory.rmdir()


class Notes:
    """A screen that remembers."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def show(self, frame: Frame) -> None:
        self.lines.append(frame.line)
        frame.picture()


@pytest.mark.slow
def test_the_second_act_on_a_short_clock() -> None:
    """Nothing about latencies: a busy machine may say what it likes."""
    screen = Notes()
    summary = weights.perform(screen, scale=0.3)
    by_phase = {row.phase: row for row in summary.rows}
    assert list(by_phase) == list(Phase)
    steady, hole = by_phase[Phase.STEADY], by_phase[Phase.HOLE]
    assert (steady.static.failed, steady.dynamic.failed) == (0, 0)
    assert set(steady.static.answers) == set(steady.dynamic.answers) == set(CORES)
    assert set(hole.static.failures) == {"reset"}
    assert all(row.static.requests == row.dynamic.requests for row in summary.rows)
    assert {name: weight.configured for name, weight in summary.highlight.weights.items()} == dict.fromkeys(CORES, 100)
    assert summary.highlight.sides[STATIC].all.requests
    assert any(FAILING in note for note in screen.notes)
    assert all(re.search(r"weights \d+ \d+ \d+ \d+$", line) for line in screen.lines[2:])
    assert not list(NETNS_DIRECTORY.glob(f"{PREFIX}-{os.getpid()}-*"))


@pytest.mark.slow
def test_the_third_act_on_a_short_clock() -> None:
    """Nothing about speeds: a busy machine may say what it likes."""
    screen = Notes()
    result = inspection.perform(screen, scale=0.5).result
    assert not result.visits.wrong
    for kind, names in result.findings.names.items():
        assert set(SITES) <= set(names)
        assert sum(names[site] for site in SITES) >= result.visits.right[kind]
    assert [alert.signature for alert in result.findings.alerts] == [SIGNATURE]
    assert result.traffic.dropped_flows == 1
    assert result.standing.answered == result.silent.answered
    download = result.findings.download
    assert download is not None
    assert (download.state, download.records <= 24, sum(download.packets) > 1000) == ("stop", True, True)
    assert any("the download is known" in note for note in screen.notes)
    assert not list(NETNS_DIRECTORY.glob(f"{PREFIX}-{os.getpid()}-*"))
