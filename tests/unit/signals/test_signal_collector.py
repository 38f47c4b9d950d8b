"""The collector: who is asked when, what is kept, and what wakes its reader."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from dataclasses import replace
from ipaddress import ip_address

import pytest
from loopback import listening, saying

from sluicegate_agent.signals.agent_check import parse_line
from sluicegate_agent.signals.ask import Answer
from sluicegate_agent.signals.collector import SignalCollector
from sluicegate_agent.signals.errors import SignalError
from sluicegate_agent.signals.model import Reading, Report, Stated
from sluicegate_agent.signals.samples import parse_samples
from sluicegate_agent.signals.targets import AgentQuestion, LoadQuestion, QueryQuestion, Question, SignalTarget
from virtual_time import run

FIRST, SECOND = ip_address("10.0.0.1"), ip_address("10.0.0.2")
QUERY = QueryQuestion("http://prometheus:9090", "up")


def agent(address=FIRST, port=9707, interval=1.0, backend=80):
    return SignalTarget(AgentQuestion(address, port), address, backend, interval)


def load(address=FIRST, interval=1.0):
    return SignalTarget(LoadQuestion(address, 80, "/load"), address, 80, interval)


def query(address=FIRST, interval=1.0, port=80):
    return SignalTarget(QUERY, address, port, interval)


def vector(**values):
    result = [{"metric": {"instance": place}, "value": [0, value]} for place, value in values.items()]
    return parse_samples(
        200, json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()
    )


class Sources:
    """Answers questions as told and notes when each was asked, and how long it might take."""

    def __init__(self, answer: Answer | SignalError | Exception, seconds: float = 0.0):
        self.answer = answer
        self.answers: dict[Question, Answer | SignalError] = {}
        self.seconds = seconds
        self.asked: list[tuple[float, Question, float]] = []
        self.running = self.most_running = 0

    async def ask(self, question: Question, seconds: float) -> Answer:
        self.asked.append((asyncio.get_running_loop().time(), question, seconds))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.running -= 1
        answer = self.answers.get(question, self.answer)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def collector(self, **options: int) -> SignalCollector:
        return SignalCollector(self.ask, seed=b"test", **options)


BUSY = Report(utilization=0.5, rps=10.0)
SILENT = SignalError("connected, but it said nothing within 1 s")


async def is_quiet(signals, seconds=30):
    """Whether nothing wakes a reader for so long."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(signals.changed(), seconds)
    return True


def test_a_new_target_is_asked_at_once_and_its_reading_has_the_time_of_its_answer():
    async def scenario():
        sources = Sources(BUSY, seconds=0.2)
        async with sources.collector() as signals:
            await asyncio.sleep(100)
            signals.update({"a": load()})
            assert signals.readings["a"] == Reading()
            assert signals.readings["a"].age(100) is None
            await asyncio.sleep(0.3)
            assert signals.readings["a"] == Reading(BUSY, at=100.2, count=1)
            assert signals.readings["a"].age(101.2) == pytest.approx(1.0)

    run(scenario())


def test_questions_follow_the_interval_and_an_answer_may_take_no_longer_than_it_nor_than_a_second():
    async def scenario():
        sources = Sources(BUSY)
        async with sources.collector() as signals:
            signals.update({"a": load(interval=0.5), "b": load(SECOND, interval=5.0)})
            await asyncio.sleep(50)
        times = Counter(question.address for _time, question, _seconds in sources.asked)
        assert 95 <= times[FIRST] <= 107
        assert 9 <= times[SECOND] <= 12
        assert {(question.address, seconds) for _time, question, seconds in sources.asked} == {
            (FIRST, 0.5),
            (SECOND, 1.0),
        }

    run(scenario())


def test_no_more_questions_are_under_way_than_allowed():
    async def scenario():
        sources = Sources(BUSY, seconds=0.5)
        async with sources.collector(at_once=10) as signals:
            signals.update({n: load(ip_address(0x0A000000 + n)) for n in range(100)})
            await asyncio.sleep(20)
        assert sources.most_running == 10
        assert len({question for _time, question, _seconds in sources.asked}) == 100

    run(scenario())


def test_an_error_leaves_the_last_report_and_its_time():
    async def scenario():
        sources = Sources(BUSY)
        async with sources.collector() as signals:
            signals.update({"a": load()})
            await asyncio.sleep(10)
            before = signals.readings["a"]
            assert before.count > 5
            sources.answer = SILENT
            await signals.changed()
            await asyncio.sleep(10)
            assert signals.readings["a"] == replace(before, at=signals.readings["a"].at, error=str(SILENT), count=0)
            assert signals.readings["a"].age(asyncio.get_running_loop().time()) > 9
            sources.answer = Report(utilization=0.7)
            await asyncio.wait_for(signals.changed(), 5)
            assert signals.readings["a"].error == ""
            assert (signals.readings["a"].report, signals.readings["a"].count) == (sources.answer, 1)

    run(scenario())


def test_a_signal_that_flaps_never_loses_its_report():
    async def scenario():
        sources = Sources(BUSY)
        async with sources.collector() as signals:
            signals.update({"a": load()})
            await asyncio.sleep(0.01)
            for turn in range(50):
                sources.answer = SILENT if turn % 2 else BUSY
                await asyncio.sleep(1)
                assert signals.readings["a"].report == BUSY

    run(scenario())


def test_what_an_agent_states_holds_until_it_states_something_else():
    async def scenario():
        sources = Sources(parse_line(b"drain 50%"))
        async with sources.collector() as signals:
            signals.update({"a": agent()})
            await asyncio.wait_for(signals.changed(), 1)
            sources.answer = parse_line(b"75%")
            await asyncio.wait_for(signals.changed(), 5)
            assert signals.readings["a"].report == Report(share=0.75, administrative=Stated.DRAIN)
            sources.answer = SILENT
            await asyncio.wait_for(signals.changed(), 5)
            assert signals.readings["a"].report == Report(share=0.75, administrative=Stated.DRAIN)
            sources.answer = parse_line(b"ready")
            await asyncio.wait_for(signals.changed(), 5)
            assert signals.readings["a"].report == Report(share=0.75, administrative=Stated.READY)

    run(scenario())


def test_numbers_that_were_measured_are_not_kept_when_the_next_report_has_none():
    async def scenario():
        sources = Sources(BUSY)
        async with sources.collector() as signals:
            signals.update({"a": load()})
            await asyncio.sleep(1)
            sources.answer = Report(utilization=0.1)
            await asyncio.sleep(3)
            assert signals.readings["a"].report == Report(utilization=0.1)

    run(scenario())


def test_measured_numbers_alone_wake_nobody():
    async def scenario():
        sources = Sources(BUSY)
        async with sources.collector() as signals:
            signals.update({"a": load()})
            await asyncio.sleep(1)
            sources.answer = Report(utilization=0.9, rps=99.0)
            assert await is_quiet(signals)
            sources.answer = SILENT
            await asyncio.wait_for(signals.changed(), 5)
            sources.answer = SignalError("connection refused")
            assert await is_quiet(signals)
            assert signals.readings["a"].error == "connection refused"

    run(scenario())


@pytest.mark.parametrize("line", [b"40%", b"weight:3", b"drain", b"maint", b"down", b"up", b"ready"])
def test_what_a_backend_states_wakes_the_reader_once(line):
    async def scenario():
        sources = Sources(parse_line(b"maxconn:5"))
        async with sources.collector() as signals:
            signals.update({"a": agent()})
            assert await is_quiet(signals)
            sources.answer = parse_line(line)
            await asyncio.wait_for(signals.changed(), 5)
            assert await is_quiet(signals)

    run(scenario())


def test_targets_with_the_same_question_share_one_answer():
    async def scenario():
        sources = Sources(BUSY)
        sources.answers[QUERY] = vector(**{"10.0.0.1:80": "0.1", "10.0.0.2:80": "0.2"})
        async with sources.collector() as signals:
            shared = {number: query(FIRST if number % 2 else SECOND) for number in range(500)}
            signals.update({**shared, "port 80": agent(), "port 81": agent(backend=81)})
            await asyncio.sleep(0.01)
            assert len(sources.asked) == 2
            assert [signals.readings[number].report.utilization for number in (1, 2, 3)] == [0.1, 0.2, 0.1]
            assert signals.readings["port 80"] == signals.readings["port 81"]
            assert signals.readings["port 80"].report == BUSY

    run(scenario())


def test_the_shortest_interval_of_those_that_share_a_question_counts():
    async def scenario():
        sources = Sources(vector(**{"10.0.0.1": "0.1"}))
        async with sources.collector() as signals:
            both = {"a": query(interval=100.0), "b": query(interval=1.0)}
            signals.update(both)
            await asyncio.sleep(20)
            assert 18 <= len(sources.asked) <= 24
            signals.update({"a": both["a"]})
            await asyncio.sleep(10)
            sources.asked.clear()
            await asyncio.sleep(1000)
            assert 8 <= len(sources.asked) <= 12
            sources.asked.clear()
            signals.update(both)
            await asyncio.sleep(10)
            assert len(sources.asked) >= 8

    run(scenario())


def test_a_backend_without_a_sample_has_an_error_of_its_own():
    async def scenario():
        sources = Sources(vector(**{"10.0.0.1": "0.1"}))
        async with sources.collector() as signals:
            signals.update({"a": query(), "b": query(SECOND)})
            await asyncio.sleep(0.01)
            assert signals.readings["a"].error == ""
            assert signals.readings["b"].error == "no sample for 10.0.0.2:80 among 1"
            assert signals.readings["b"].report is None

    run(scenario())


def test_a_backend_never_gets_the_sample_of_its_neighbour_at_the_same_address():
    async def scenario():
        sources = Sources(vector(**{"10.0.0.1:81": "0.9"}))
        async with sources.collector() as signals:
            signals.update({"a": query(port=80), "b": query(port=81)})
            await asyncio.sleep(0.01)
            assert signals.readings["a"].report is None
            assert signals.readings["b"].report == Report(utilization=0.9)

    run(scenario())


def test_a_target_that_joins_begins_with_the_last_answer_and_its_time():
    async def scenario():
        sources = Sources(vector(**{"10.0.0.1": "0.1", "10.0.0.2": "0.2"}))
        async with sources.collector() as signals:
            signals.update({"a": query(interval=100)})
            await asyncio.sleep(5)
            signals.update({"a": query(interval=100), "b": query(SECOND, 100), "c": query(ip_address("10.0.0.3"), 100)})
            assert signals.readings["b"] == Reading(Report(utilization=0.2), at=0.0, count=1)
            assert signals.readings["c"] == Reading()
            assert len(sources.asked) == 1

    run(scenario())


def test_what_is_known_survives_edits_of_the_interval_and_of_others():
    async def scenario():
        sources = Sources(parse_line(b"drain"))
        async with sources.collector() as signals:
            signals.update({"a": agent(interval=100)})
            await asyncio.sleep(1)
            known = signals.readings["a"]
            for targets in ({"a": agent(interval=50)}, {"a": agent(interval=50), "b": agent(SECOND, interval=50)}):
                signals.update(targets)
                assert signals.readings["a"] == known
            await asyncio.sleep(1)
            assert len(sources.asked) == 2

    run(scenario())


@pytest.mark.parametrize("other", [agent(SECOND), agent(port=9708), load()])
def test_another_question_is_asked_at_once_and_forgets_what_was_said(other):
    async def scenario():
        sources = Sources(parse_line(b"drain"), seconds=0.5)
        async with sources.collector() as signals:
            signals.update({"a": agent(interval=100)})
            await asyncio.sleep(1)
            sources.answer = BUSY
            signals.update({"a": other})
            assert signals.readings["a"] == Reading()
            await asyncio.sleep(1)
            assert signals.readings["a"].report == BUSY

    run(scenario())


def test_an_answer_to_a_question_that_nobody_asks_any_more_is_not_heard():
    async def scenario():
        sources = Sources(parse_line(b"drain"), seconds=0.5)
        async with sources.collector() as signals:
            signals.update({"a": agent(interval=100)})
            await asyncio.sleep(0.1)
            signals.update({"a": agent(SECOND, interval=100)})
            sources.answers[AgentQuestion(SECOND, 9707)] = parse_line(b"up")
            await asyncio.sleep(0.45)
            assert signals.readings["a"] == Reading()
            await asyncio.sleep(1)
            assert signals.readings["a"].report == parse_line(b"up")
            signals.update({})
            assert dict(signals.readings) == {}
            asked = len(sources.asked)
            await asyncio.sleep(500)
            assert len(sources.asked) == asked

    run(scenario())


def test_an_agent_keeps_its_word_when_its_backend_gets_another_name():
    async def scenario():
        sources = Sources(parse_line(b"drain"))
        async with sources.collector() as signals:
            signals.update({"old": agent(interval=100)})
            await asyncio.sleep(1)
            sources.answer = parse_line(b"75%")
            signals.update({"new": agent(interval=100)})
            assert signals.readings["new"].report == parse_line(b"drain")
            await asyncio.sleep(300)
            assert signals.readings["new"].report == Report(share=0.75, administrative=Stated.DRAIN)

    run(scenario())


def test_a_defect_is_logged_and_told_and_the_question_asked_again(caplog):
    async def scenario():
        sources = Sources(ValueError("a defect"))
        async with sources.collector() as signals:
            signals.update({"a": load()})
            await asyncio.sleep(5)
            assert len(sources.asked) >= 4
            assert signals.readings["a"].error == "could not ask: an error of this program, see its log"

    with caplog.at_level(logging.ERROR):
        run(scenario())
    assert "asking for a signal broke" in caplog.text


def test_closing_tells_no_errors():
    async def scenario():
        sources = Sources(BUSY, seconds=0.5)
        async with sources.collector() as signals:
            signals.update({"a": load()})
            await asyncio.sleep(0.1)
        assert signals.readings["a"] == Reading()

    run(scenario())


def test_real_agents_are_asked():
    async def scenario():
        home = ip_address("127.0.0.1")
        async with listening(saying(b"drain 40%\n")) as port, SignalCollector() as signals:
            signals.update({"a": SignalTarget(AgentQuestion(home, port), home, 80)})
            await asyncio.wait_for(signals.changed(), 60)
            assert signals.readings["a"].report == Report(share=0.4, administrative=Stated.DRAIN)

    asyncio.run(scenario())
