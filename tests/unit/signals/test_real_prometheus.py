"""A real Prometheus on loopback: what it answers is what the samples' reader expects."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest

from sluicegate_agent.signals.ask import ask
from sluicegate_agent.signals.collector import SignalCollector
from sluicegate_agent.signals.errors import SignalError
from sluicegate_agent.signals.model import Reading, Report
from sluicegate_agent.signals.samples import Samples
from sluicegate_agent.signals.targets import QueryQuestion, SignalTarget

PROGRAM = Path(__file__).parents[3] / ".tools/prometheus/usr/bin/prometheus"
HOME = ip_address("127.0.0.1")
SECONDS = 60.0
"""For all that is waited for; nothing near it is expected."""


@contextmanager
def exporting(value: float) -> Iterator[int]:
    """The port of an exporter whose metric ``utilization`` has this value."""

    class Metrics(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(f"# TYPE utilization gauge\nutilization {value}\n".encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Metrics) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextmanager
def running(folder: Path, targets: list[int]) -> Iterator[str]:
    """The URL of a Prometheus that scrapes these ports of loopback and has done so."""
    hosts = ", ".join(f'"127.0.0.1:{port}"' for port in targets)
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 100ms, scrape_timeout: 100ms}\n"
        f"scrape_configs: [{{job_name: web, static_configs: [{{targets: [{hosts}]}}]}}]\n"
    )
    port = free_port()
    arguments = (
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([PROGRAM, *arguments], stdout=log, stderr=log, cwd=folder)
        try:
            wait_until_scraped(process, f"http://127.0.0.1:{port}", len(targets), folder / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until_scraped(process: subprocess.Popen[bytes], url: str, targets: int, log: Path) -> None:
    """It gives no word when it is ready or has scraped, so it is asked again and again."""
    until = time.monotonic() + SECONDS
    found: Samples | SignalError | None = None
    while time.monotonic() < until and process.poll() is None:
        try:
            found = asyncio.run(ask_query(url, "utilization"))
        except SignalError as failure:
            found = failure
        else:
            if found.count == targets:
                return
        time.sleep(0.05)
    pytest.fail(f"Prometheus is not ready: {found}\n{log.read_text()}")


async def ask_query(url: str, query: str) -> Samples:
    answer = await ask(QueryQuestion(url, query), SECONDS)
    assert isinstance(answer, Samples)
    return answer


@dataclass(frozen=True)
class Monitored:
    """A Prometheus and the ports of two backends that it scrapes."""

    url: str
    quarter: int
    full: int


@pytest.fixture(scope="module")
def monitored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitored]:
    if not PROGRAM.exists():
        missing = f"there is no {PROGRAM}: run scripts/debian_tool.sh prometheus"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    folder = tmp_path_factory.mktemp("prometheus")
    with exporting(0.25) as quarter, exporting(1.0) as full, running(folder, [quarter, full]) as url:
        yield Monitored(url, quarter, full)


def test_one_query_tells_the_utilization_of_every_backend(monitored: Monitored) -> None:
    async def scenario() -> dict[object, Reading]:
        question = QueryQuestion(monitored.url + "/", 'avg by (instance) (utilization{job="web"}) / 2')
        targets = {port: SignalTarget(question, HOME, port) for port in (monitored.quarter, monitored.full, 1)}
        async with SignalCollector() as signals:
            signals.update(targets)
            await asyncio.wait_for(signals.changed(), SECONDS)
            return dict(signals.readings)

    readings = asyncio.run(scenario())
    assert readings[monitored.quarter].report == Report(utilization=0.125)
    assert readings[monitored.full].report == Report(utilization=0.5)
    assert readings[1].error == "no sample for 127.0.0.1:1 among 2"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("utilization{", "the query failed: bad_data: "),
        ("utilization * on(instance) group_left up{job='web'} * on(job) utilization", "the query failed: execution: "),
        ("1", "the query's result is a scalar, not an instant vector"),
        ('"text"', "the query's result is a string, not an instant vector"),
        ("utilization[5s]", "the query's result is a matrix, not an instant vector"),
        ("nothing_of_that_name", "the query's result is empty"),
        ("sum(utilization)", "none of its 1 has an address in one of the labels"),
        ("utilization * NaN", "is not a number (NaN)"),
        ("utilization / 0", "is inf, above 10"),
        ("utilization - 9", "is -8.75, below 0"),
        ("utilization * 100", "is 25, above 10: 1 means full, give no per cent"),
    ],
)
def test_a_query_that_gives_no_utilization_is_an_error_in_words(monitored: Monitored, query: str, words: str) -> None:
    with pytest.raises(SignalError) as failure:
        asyncio.run(ask_query(monitored.url, query)).report(HOME, monitored.quarter)
    assert words in str(failure.value)


def test_a_wrong_path_is_an_error_in_words(monitored: Monitored) -> None:
    with pytest.raises(SignalError, match="status 404, expected 200"):
        asyncio.run(ask_query(f"{monitored.url}/elsewhere", "utilization"))
