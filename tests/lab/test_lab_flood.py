"""A SYN flood from spoofed sources: who is served meanwhile, and what the counters say."""

from __future__ import annotations

import json
import time

import pytest

from clients import ask_name
from sluicegate_agent.lab.agent import service_port
from sluicegate_agent.lab.counters import drops
from sluicegate_agent.lab.namespace import run
from sluicegate_agent.lab.processes import LoadProcess
from sluicegate_agent.lab.rig import VIP4, VIP6, RigOptions
from sluicegate_agent.lab.tally import Tally
from stage import MODES, Build, Mode, Stage, each_mode
from syn_flood import send_syns

pytestmark = pytest.mark.lab

LIMIT = 256
SYNS = 20_000
HONEST = 30
SESSIONS = 12


def start(build: Build, mode: Mode) -> tuple[Stage, bytes]:
    """A balancer with a small limit that routes unknown addresses to the client; and its MAC on the client's wire."""
    stage = build(RigOptions(backends=2), SLUICEGATE_HALF_OPEN_LIMIT=str(LIMIT))
    stage.rig.balancer.ip(["route add default via 10.76.0.2", "route add default via fd76::2"])
    stage.balance(mode=mode)
    (link,) = json.loads(run(["ip", "-n", stage.rig.balancer.name, "-json", "link", "show", stage.rig.client_port]))
    return stage, bytes.fromhex(link["address"].replace(":", ""))


@each_mode(*MODES)
def test_established_flows_go_on_in_a_syn_flood_and_new_ones_as_the_mode_allows(
    build: Build, mode: Mode, capsys: pytest.CaptureFixture[str]
) -> None:
    stage, mac = start(build, mode)
    port = service_port("TCP", mode)
    load = stage.load(mode=mode, rate=0, sessions=SESSIONS)
    calm = exchanged(load, SESSIONS * 3)
    for vip in (VIP4, VIP6):
        before = stage.agent.packets()
        started = time.monotonic()
        sent = send_syns(stage.rig.client, mac, vip, port, SYNS)
        seconds = time.monotonic() - started
        during = load.take()
        patience = 0.1 if mode == "FullNAT" else 3.0
        connected = sum(ask_name(stage.rig.client, vip, port, seconds=patience) != "" for _ in range(HONEST))
        during.add(exchanged(load, SESSIONS * 3))
        counts = stage.agent.packets() - before
        with capsys.disabled():
            print(
                f"\n  {mode}, {vip}: {sent} SYNs in {seconds:.1f} s ({sent / seconds:,.0f}/s), limit {LIMIT}: "
                f"{during.exchanges} exchanges on {SESSIONS} established connections, {during.broken.total()} broken; "
                f"{connected} of {HONEST} new clients connected; dropped {dict(drops(counts))}"
            )
        assert during.broken.total() == 0, vip
        assert sent > SYNS / 2
        if mode == "FullNAT":
            assert connected == 0, vip
            assert sent - 2 * LIMIT < drops(counts)["flood"] <= sent + 2 * HONEST, vip
        else:
            assert connected == HONEST, vip
            assert set(drops(counts)) <= {"no_route"}, vip  # of replies to addresses that nobody has
    calm.add(load.finish())
    assert (calm.failed, calm.broken.total()) == (0, 0)


def exchanged(load: LoadProcess, count: int) -> Tally:
    """Let the long connections go on until they have asked and been answered so many more times."""
    total = load.take()
    deadline = time.monotonic() + 20
    while total.exchanges < count:
        assert time.monotonic() < deadline, total
        time.sleep(0.05)
        total.add(load.take())
    return total
