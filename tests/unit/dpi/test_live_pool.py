"""Workers as processes: what they find, what a crash costs, what a new configuration changes."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engine_rig import Talk, datagram, facts_of, request
from live_rig import DROP, PAGE, SNIFFER, STOP, Stage, configuration, live, over, policy, stage, status_of
from scapy.layers.dns import DNS, DNSQR, DNSRR
from schema_check import problems

from sluicegate_agent.dpi.engine import Limits, available
from sluicegate_agent.dpi.live import keeper, process
from sluicegate_agent.dpi.live.pool import RunState, WorkerConfig
from sluicegate_agent.dpi.live.site import Mark
from sluicegate_agent.dpi.live.worker import RECORDS_PER_CALL
from sluicegate_agent.dpi.records import RECORD, flow_id
from sluicegate_agent.dpi.rules.tables import Pattern, RuleTables

pytestmark = pytest.mark.skipif(available() is not None, reason=str(available()))

INTRUDER = 'alert tcp any any -> any any (msg:"passwd"; content:"/etc/passwd"; sid:1001; rev:2; classtype:web;)'
CART = 'alert tcp any any -> any any (msg:"cart"; content:"cart"; sid:1002;)'
QUESTION = bytes(DNS(rd=1, qd=DNSQR(qname="www.example.com")))
ANSWER = bytes(DNS(qr=1, qd=DNSQR(qname="www.example.com"), an=DNSRR(rrname="www.example.com", rdata="192.0.2.99")))
FILLER = datagram(b"x" * 20, port=4000)
DROP_IT = [{"match": {"signatureIds": [1001]}, "action": "Drop", "forSeconds": 90}]


def talk(on: Stage, path: str = "/shop", flow: int = 1, **fields: Any) -> Talk:
    """A request over HTTP and its answer: nDPI wants both."""
    found = Talk(on, flow, **fields).shake()  # type: ignore[arg-type]
    return found.say(request(path)).say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", reverse=True)


@live
async def test_a_flow_becomes_lines_with_the_names_of_sniffer_node_and_interface(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.settled(configuration(policy()))
        talk(on)
        on.pool.end_flows(0, [over()])
        await on.until(lambda: on.of("flow"))
        (http,), (flow,) = on.of("http"), on.of("flow")
        assert on.heard[0][0] == SNIFFER
        assert (http["vnf"], http["node"], http["in_iface"]) == ("shop/edge", "node-1", "eth7")
        assert flow["flow"]["pkts_toclient"] == 200
        assert flow["flow"]["bytes_toclient"] == 2_000_000
        assert flow["sniffing"] == {"records": 7, "state": "stop", "reason": "classified"}
        assert flow["ndpi"]["proto"] == "HTTP"
        assert [text for event in (http, flow) for text in problems(event)] == []
        assert on.word(1) == (7, 0, STOP)
        assert on.state.lines == len(on.heard)


@live
async def test_an_attack_is_told_and_its_flow_dropped_for_as_long_as_the_action_says(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.settled(configuration(policy(INTRUDER, actions=DROP_IT)))
        talk(on, "/etc/passwd")
        await on.until(lambda: on.of("alert"))
        (alert,) = on.of("alert")
        assert alert["alert"]["signature"] == "passwd"
        assert alert["alert"]["action"] == "blocked"
        assert alert["alert"]["rev"] == 2
        assert on.word(1) == (7, 90, DROP)


@live
async def test_an_action_on_a_label_drops_a_flow_that_the_engine_stopped(tmp_path: Path) -> None:
    action = {"name": "no-web", "match": {"protocols": ["HTTP"]}, "action": "Drop", "forSeconds": 5}
    async with stage(tmp_path) as on:
        await on.settled(configuration(policy(actions=[action])))
        talk(on)
        await on.until(lambda: on.of("alert"))
        assert on.of("alert")[0]["alert"]["signature"] == "action no-web"
        assert on.word(1) == (7, 5, DROP)


@live
async def test_a_killed_worker_is_replaced_and_the_ring_goes_on(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.settled(configuration(policy()))
        talk(on)
        await on.until(lambda: on.of("http"))
        first = on.state.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        talk(on, flow=2)
        await on.until(lambda: len(on.of("http")) == 2)
        on.pool.end_flows(0, [over(1), over(2)])
        await on.until(lambda: len(on.of("flow")) == 2)
        unknown, known = on.of("flow")
        # What the first worker knew went with it; who talked to whom and how much did not.
        assert "ndpi" not in unknown
        assert (unknown["src_ip"], unknown["dest_port"]) == ("192.0.2.10", 80)
        assert unknown["flow"]["pkts_toserver"] == 100
        assert known["ndpi"]["proto"] == "HTTP"
        assert [text for event in (known, unknown) for text in problems(event)] == []
        await on.until(lambda: on.state.state is RunState.RUNNING)
        assert (on.state.restarts, on.state.quarantined) == (1, 0)
        assert on.state.reason == "ended by SIGKILL"
        assert on.state.pid != first
        # As far as the first worker had said: it reports each second.
        assert on.state.forgotten <= 1


async def fatal(on: Stage, number: signal.Signals | None) -> None:
    """The worker ends by that signal, or does nothing more, while it looks at the first record of the ring."""
    pid = on.state.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    await on.until(lambda: "T" in status_of(pid)["State"])
    position = on.rings[0].produced
    talk(on, flow=9)
    on.pool._keepers[0]._site.mark(Mark(position, flow_id(9, 7)))
    if number is not None:
        os.kill(pid, number)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    await on.until(lambda: on.state.pid not in {pid, None})


@live
async def test_a_record_that_ends_a_worker_is_saved_and_its_flow_stopped(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.settled(configuration(policy()))
        before = on.rings[0].produced
        await fatal(on, signal.SIGSEGV)
        assert on.state.quarantined == 1
        (saved,) = (tmp_path / "quarantine").glob("*.record")
        assert saved.stat().st_mode & 0o777 == 0o600
        record = saved.read_bytes()
        assert RECORD.unpack_from(record)[1] == flow_id(9, 7)
        assert str(saved) in on.state.reason
        assert on.word(9) == (7, 0, STOP)
        await on.drained()
        talk(on, flow=10)
        await on.until(lambda: on.of("http"))
        # Of five packets each, all but that one.
        await on.until(lambda: on.state.engine.get("records", 0) >= 9)
        assert on.state.engine["records"] == 9
        assert before < on.rings[0].position


@live
async def test_a_record_is_not_to_blame_for_one_kill_but_for_two(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.settled(configuration(policy()))
        position = on.rings[0].produced
        await fatal(on, signal.SIGKILL)
        assert on.state.quarantined == 0
        await on.drained()
        # The same place once more, as when the kernel ends whoever takes too much memory over this packet.
        await on.until(lambda: on.state.state is RunState.RUNNING)
        pid = on.state.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        await on.until(lambda: "T" in status_of(pid)["State"])
        struct.pack_into("<Q", on.rings[0].pages, 0, position)
        on.pool._keepers[0]._site.mark(Mark(position, flow_id(9, 7)))
        os.kill(pid, signal.SIGKILL)
        await on.until(lambda: on.state.quarantined == 1)
        assert on.word(9) == (7, 0, STOP)


@live
async def test_a_worker_that_is_stuck_at_a_record_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "STUCK_SECONDS", 0.05)
    monkeypatch.setattr(keeper, "WATCH_SECONDS", 0.02)
    async with stage(tmp_path) as on:
        await on.settled(configuration(policy()))
        await fatal(on, None)
        assert "looked at one record" in on.state.reason
        assert on.state.quarantined == 1


@live
async def test_a_worker_that_says_nothing_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(tmp_path) as on:
        await on.settled(configuration(policy()))
        pid = on.state.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        monkeypatch.setattr(keeper, "SILENT_SECONDS", 0.05)
        await on.until(lambda: on.state.restarts)
        assert "said nothing" in on.state.reason
        assert on.state.quarantined == 0


@live
async def test_a_ring_that_contradicts_itself_is_skipped(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.settled(configuration(policy()))
        pid = on.state.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        await on.until(lambda: "T" in status_of(pid)["State"])
        position = on.rings[0].produced
        talk(on, flow=9)
        struct.pack_into("<I", on.rings[0].pages, 2 * PAGE + position, 1 << 20)  # a length beyond the ring
        on.pool._keepers[0]._site.mark(Mark(position, flow_id(9, 7)))
        os.kill(pid, signal.SIGSEGV)
        os.kill(pid, signal.SIGCONT)
        await on.until(lambda: on.state.skipped_bytes)
        assert on.rings[0].position == on.rings[0].produced
        talk(on, flow=10)
        await on.until(lambda: on.of("http"))


@live
async def test_new_rules_are_looked_for_in_flows_that_go_on(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.settled(configuration(policy(INTRUDER)))
        http = talk(on)
        await on.drained()
        pid = on.state.pid
        await on.settled(configuration(policy(f"{INTRUDER}\n{CART}")))
        http.say(request("/cart"))
        await on.until(lambda: on.of("alert"))
        assert on.of("alert")[0]["alert"]["signature_id"] == 1002
        assert (on.state.pid, on.state.restarts) == (pid, 0)
        await on.until(lambda: on.state.engine.get("flows", 0) > 0)
        assert on.state.engine["flows"] == 1


@live
async def test_the_same_rules_are_compiled_once(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.settled(configuration(policy(INTRUDER)))
        http = talk(on)
        await on.drained()
        await on.settled(configuration(policy(INTRUDER, budget={"maxPackets": 30})))
        http.say(b"X-Path: /etc/pas")
        http.say(b"swd")
        await on.drained()
        await on.settled(configuration(policy(INTRUDER)))
        on.pool.end_flows(0, [over()])
        await on.until(lambda: on.of("flow"))
        assert on.state.engine.get("restarted", 0) == 0


@live
async def test_another_depth_takes_another_process_and_flows_are_told_before(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.settled(configuration(policy()))
        talk(on)
        await on.until(lambda: on.of("http"))
        pid = on.state.pid
        await on.pool.configure(configuration(policy(classify={"depth": "Off"})))
        await on.until(lambda: on.state.config == on.pool.version)
        assert on.state.pid != pid
        assert on.of("flow")[0]["flow"]["reason"] == "shutdown"
        assert "classify.depth" in on.state.no_classification
        assert on.state.reason == ""


@live
async def test_without_a_sniffer_there_is_no_process(tmp_path: Path) -> None:
    async with stage(tmp_path, workers=2) as on:
        assert [state.state for state in on.pool.states()] == [RunState.IDLE] * 2
        await on.settled(configuration(policy()))
        assert all(state.pid for state in on.pool.states())
        await on.pool.configure(WorkerConfig())
        await on.until(lambda: all(state.state is RunState.IDLE for state in on.pool.states()))
        assert all(state.pid is None for state in on.pool.states())


@live
async def test_a_configuration_that_changes_while_a_worker_starts_is_not_missed(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.pool.configure(configuration(policy()))
        await asyncio.sleep(0)
        await on.pool.configure(WorkerConfig())
        await on.until(lambda: on.state.state is RunState.IDLE and on.state.pid is None)
        await on.pool.configure(configuration(policy()))
        await asyncio.sleep(0)
        await on.settled(configuration(policy(CART)))
        assert on.state.restarts == 0
        talk(on, "/cart")
        await on.until(lambda: on.of("alert"))


@live
async def test_ends_that_went_with_a_worker_are_counted(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.settled(configuration(policy()))
        on.pool.end_flows(0, [over(1), over(2)])
        await on.until(lambda: len(on.of("flow")) == 2)
        pid = on.state.pid
        assert pid is not None
        worker = on.pool._keepers[0]._process
        assert worker is not None
        await on.until(lambda: worker.said.ends == 2)
        os.kill(pid, signal.SIGSTOP)
        on.pool.end_flows(0, [over(flow) for flow in range(3, 8)])
        os.kill(pid, signal.SIGKILL)
        await on.until(lambda: on.state.restarts)
        assert on.state.ends_dropped == 5


@live
async def test_what_waits_in_the_ring_is_not_looked_at_without_rules(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        talk(on, "/cart")
        await on.settled(configuration(policy(CART)))
        await on.until(lambda: on.of("alert"))


@live
async def test_a_flow_ends_after_its_records(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.settled(configuration(policy()))
        pid = on.state.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        for _ in range(3 * RECORDS_PER_CALL):
            on.put(FILLER, 500)
        talk(on)
        on.pool.end_flows(0, [over()])
        os.kill(pid, signal.SIGCONT)
        await on.until(lambda: on.of("flow"))
        assert on.of("flow")[0]["ndpi"]["proto"] == "HTTP"


@live
async def test_two_sniffers_tell_their_own_flows(tmp_path: Path) -> None:
    async with stage(tmp_path, workers=2) as on:
        await on.settled(configuration(policy(), policy(CART, name="other")))
        talk(on, "/cart")
        on.worker, on.sniffer = 1, SNIFFER + 1
        talk(on, "/cart", flow=2)
        await on.until(lambda: len(on.of("http")) == 2 and on.of("alert"))
        assert {(sniffer, event["vnf"]) for sniffer, _, event in on.heard} == {(3, "shop/edge"), (4, "shop/other")}
        assert [event["vnf"] for event in on.of("alert")] == ["shop/other"]


@live
async def test_flows_are_told_when_the_pool_ends(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.settled(configuration(policy()))
        talk(on, port=443)
        await on.drained()
    (flow,) = on.of("flow")
    assert flow["flow"]["reason"] == "shutdown"
    assert list(problems(flow)) == []


@live
async def test_ends_wait_for_a_worker_and_are_counted_when_there_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "MAX_QUEUED_ENDS", 3)
    async with stage(tmp_path) as on:
        on.pool.end_flows(0, [over(flow) for flow in range(1, 6)])
        await on.settled(configuration(policy()))
        await on.until(lambda: len(on.of("flow")) == 3)
        assert on.state.ends_dropped == 2


@live
async def test_a_worker_that_cannot_work_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "FIRST_PAUSE", 0.001)
    async with stage(tmp_path, limits=Limits(max_flows=0)) as on:
        await on.pool.configure(configuration(policy()))
        await on.until(lambda: on.state.state is RunState.FAILED)
        assert "limits: flows 1 to" in on.state.reason
        # Another configuration is another chance, at once.
        await on.pool.configure(configuration(policy()))
        await on.until(lambda: on.state.restarts > keeper.FAILURES)


@live
async def test_a_worker_that_sends_nonsense_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MODULE", "nonsense_worker")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    async with stage(tmp_path) as on:
        await on.pool.configure(configuration(policy()))
        await on.until(lambda: on.state.restarts)
        assert on.state.reason == "it sent nonsense: lines that do not end"
        assert on.heard == []


@live
async def test_rules_that_cannot_be_compiled_are_said_and_the_others_stay(tmp_path: Path) -> None:
    bad = replace(policy(CART), rules=RuleTables(patterns=(Pattern(b"(", 0, 0, 3),), first_term=(0, 0)))
    async with stage(tmp_path) as on:
        await on.settled(configuration(policy(CART)))
        await on.settled(configuration(bad))
        assert set(on.state.problems) == {SNIFFER}
        talk(on, "/cart")
        await on.until(lambda: on.of("alert"))
        await on.settled(configuration(policy(CART)))
        assert on.state.problems == {}


@live
async def test_a_pool_that_does_not_read_costs_lines_and_nothing_else(tmp_path: Path) -> None:
    flows = 12_000
    question, answer = datagram(QUESTION, port=53), datagram(ANSWER, port=53, reverse=True)
    async with stage(tmp_path) as on:
        await on.settled(configuration(policy()))
        worker = on.pool._keepers[0]._process
        assert worker is not None
        worker._reader._transport.pause_reading()  # type: ignore[attr-defined]
        pair = [
            (bytes(packet), facts_of(packet, 1, reverse=reverse) | {"policy": SNIFFER, "ts_ns": 1})
            for packet, reverse in ((question, False), (answer, True))
        ]
        for flow in range(1, flows):
            for packet, facts in pair:
                if not on.rings[0].put(packet, **(facts | {"flow_id": flow_id(flow, 7)})):
                    await on.drained()
                    assert on.rings[0].put(packet, **(facts | {"flow_id": flow_id(flow, 7)}))
        await on.drained()
        on.pool.end_flows(0, [over(flow, protocol=17) for flow in range(1, flows)])
        before = len(on.heard)
        # What waits is bounded, and what is read again is whole lines: `Stage.take` parses them.
        worker._reader._transport.resume_reading()  # type: ignore[attr-defined]
        await on.until(lambda: on.state.engine.get("ended") == flows - 1 and on.state.lines_dropped)
        assert len(on.heard) > before
        assert on.state.restarts == 0


@live
async def test_a_worker_has_no_privileges_and_no_calls_to_gain_any(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.settled(configuration(policy()))
        assert on.state.pid is not None
        facts = status_of(on.state.pid)
        assert (facts["NoNewPrivs"], facts["Seccomp"], facts["CapEff"]) == ("1", "2", "0" * 16)
        if os.geteuid() == 0:
            assert set(facts["Uid"].split()) == {"65534"}
            assert facts["Groups"] == ""
            assert on.state.sandbox == ""


@live
async def test_a_worker_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    # Only a process of its own can be killed without warning.
    code = f"""
import asyncio, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from live_rig import *
async def main():
    async with stage(Path({str(tmp_path)!r})) as on:
        await on.settled(configuration(policy()))
        print(on.state.pid, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""
    agent = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    try:
        assert agent.stdout is not None
        worker = int(await agent.stdout.readline())
        ended = os.pidfd_open(worker)
    finally:
        agent.kill()
        await agent.wait()
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(ended, gone.set)
    try:
        await asyncio.wait_for(gone.wait(), 60)
    finally:
        asyncio.get_running_loop().remove_reader(ended)
        os.close(ended)


@live
async def test_who_takes_the_lines_may_fail_and_the_next_worker_is_served(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        take = on.take

        def refuse(sniffer: int, event_type: str, lines: list[bytes]) -> None:
            on.take = take  # type: ignore[method-assign]
            raise RuntimeError(event_type)

        on.take = refuse  # type: ignore[method-assign]
        await on.settled(configuration(policy()))
        talk(on)
        await on.until(lambda: on.state.restarts)
        assert "RuntimeError" in on.state.reason
        talk(on, flow=2)
        await on.until(lambda: on.of("http"))
