"""The agent that people copy says what the load balancer understands, and means what the guide says."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from sluicegate_agent.signals.agent_check import parse_line

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "agent_check.py"


@pytest.fixture
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("agent_check_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def share(example: ModuleType, requests: int, busy: float, ticks: int = 50) -> float | None:
    """What is understood after so many seconds with these requests per second and this part of all CPUs used."""
    meter = example.Meter()
    for _ in range(ticks):
        meter.tick(1.0, requests, busy * example.CPUS)
    return parse_line(meter.line().encode()).share


def test_a_server_that_takes_what_it_is_rated_for_asks_for_its_weight(example: ModuleType) -> None:
    assert share(example, 250, 0.5) == pytest.approx(1.0, abs=0.02)


def test_the_share_does_not_depend_on_how_much_is_sent(example: ModuleType) -> None:
    assert share(example, 50, 0.2) == share(example, 200, 0.8) == pytest.approx(0.5, abs=0.02)


def test_an_idle_server_asks_for_no_more_than_its_weight(example: ModuleType) -> None:
    assert share(example, 0, 0.0) == 1.0
    assert share(example, 400, 0.01) == 1.0


def test_no_load_whatever_makes_it_ask_for_nothing_or_everything(example: ModuleType) -> None:
    assert share(example, 5, 1.0) == 0.05
    assert share(example, 1_000_000, 0.1) == 2.0


def test_it_answers_one_line_over_tcp_and_closes(example: ModuleType) -> None:
    async def ask() -> bytes:
        async with await asyncio.start_server(example.answer, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            try:
                return await asyncio.wait_for(reader.read(), 5)
            finally:
                writer.close()
                await writer.wait_closed()

    assert parse_line(asyncio.run(ask())).share == 1.0


def test_the_guide_shows_the_example_itself() -> None:
    guide = (ROOT / "docs" / "how-to" / "dynamic-weights.md").read_text(encoding="utf-8")
    (shown,) = [part.partition("```")[0] for part in guide.split("```python\n")[1:]]
    assert shown in EXAMPLE.read_text(encoding="utf-8")
