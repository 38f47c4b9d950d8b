"""Each kind of signal against servers on loopback that are slow, silent, endless, huge or talk nonsense."""

from __future__ import annotations

import asyncio
import json
import socket
from ipaddress import ip_address

import pytest
from loopback import Serve, answering, dripping, holding, http, listening, pouring, saying
from safe_words import check_words

from sluicegate_agent.asking import connection
from sluicegate_agent.signals import prometheus
from sluicegate_agent.signals.ask import Answer, ask
from sluicegate_agent.signals.errors import SignalError
from sluicegate_agent.signals.model import Report, Stated
from sluicegate_agent.signals.samples import Samples
from sluicegate_agent.signals.targets import AgentQuestion, LoadQuestion, QueryQuestion, Question
from virtual_time import run

HOME = ip_address("127.0.0.1")
VECTOR = json.dumps(
    {
        "status": "success",
        "data": {"resultType": "vector", "result": [{"metric": {"ip": "10.0.0.5"}, "value": [1, "0.5"]}]},
    }
).encode()


def agent(port: int) -> Question:
    return AgentQuestion(HOME, port)


def load(port: int) -> Question:
    return LoadQuestion(HOME, port, "/load?deep=1")


def query(port: int) -> Question:
    return QueryQuestion(f"http://127.0.0.1:{port}/base/", 'up{job="web"} + 1')


KINDS = {"agent": agent, "load": load, "query": query}


def told(kind: str, *parts: bytes) -> Serve:
    """A server of this kind that says this and closes: an agent does so unasked."""
    return saying(*parts) if kind == "agent" else answering(*parts)


def asked(kind: str, serve: Serve, seconds: float = 1.0) -> Answer:
    """The answer to one question, in virtual time."""

    async def scenario() -> Answer:
        async with listening(serve) as port:
            return await ask(KINDS[kind](port), seconds)

    return run(scenario())


def refused(kind: str, serve: Serve) -> str:
    """The words of the one exception that asking may raise."""
    with pytest.raises(SignalError) as failure:
        asked(kind, serve)
    check_words(failure.value)
    return str(failure.value)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\0", b""])
def test_an_agent_is_heard_with_and_without_the_end_of_its_line(end: bytes) -> None:
    serve = saying(b"75% up" + end)
    assert asked("agent", serve) == Report(share=0.75, operational=Stated.UP)


def test_an_agent_that_keeps_the_connection_is_heard_at_the_end_of_its_line() -> None:
    assert asked("agent", holding(b"dra", b"in\n")) == Report(administrative=Stated.DRAIN)


def test_a_backend_reports_its_load() -> None:
    body = b'{"application_utilization": 0.5, "rps_fractional": 40, "eps": 1}'
    assert asked("load", answering(http(body))) == Report(0.5, 40.0, 1.0)
    assert asked("load", holding(http(body))) == Report(0.5, 40.0, 1.0)


def test_prometheus_answers_a_query() -> None:
    answer = asked("query", answering(http(VECTOR)))
    assert isinstance(answer, Samples)
    assert answer.report(ip_address("10.0.0.5"), 80) == Report(utilization=0.5)


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("load", "GET /load?deep=1 HTTP/1.1"),
        ("query", "GET /base/api/v1/query?timeout=1000ms&query=up%7Bjob%3D%22web%22%7D%20%2B%201 HTTP/1.1"),
    ],
)
def test_the_request_is_one_that_every_server_takes(kind: str, line: str) -> None:
    heard: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend((await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n"))
        writer.write(http(b'{"eps": 0}' if kind == "load" else VECTOR))

    asked(kind, serve)
    assert heard[0] == line
    assert [name for name in heard if name.startswith("Host: 127.0.0.1:")]
    assert "Connection: close" in heard


@pytest.mark.parametrize("kind", KINDS)
def test_silence_is_an_error_after_the_timeout(kind: str) -> None:
    assert "within 1 s" in refused(kind, holding())


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_drips_is_an_error_after_the_timeout(kind: str) -> None:
    text = {"agent": b"75% up\n", "load": http(b'{"eps": 0}'), "query": http(VECTOR)}[kind]
    words = refused(kind, dripping(text.rjust(20, b" "), 0.15) if kind == "agent" else dripping(text, 0.15))
    assert "within 1 s" in words
    assert "(7 bytes came)" in words


@pytest.mark.parametrize("kind", KINDS)
def test_a_connection_that_ends_without_a_word_is_an_error(kind: str) -> None:
    assert refused(kind, told(kind)) in {"an empty answer", "connection closed without an answer"}


@pytest.mark.parametrize("kind", KINDS)
def test_nonsense_is_an_error_that_quotes_it(kind: str) -> None:
    assert r"\x1b[2J" in refused(kind, told(kind, b"\x1b[2J nonsense\n"))


def test_an_endless_line_is_an_error_at_its_bound() -> None:
    assert "its line is longer than 1024 bytes" in refused("agent", pouring(b"", b"up " * 999))


@pytest.mark.parametrize(("kind", "most"), [("load", 65_536), ("query", 4_194_304)])
def test_an_endless_answer_is_an_error_at_its_bound(kind: str, most: int) -> None:
    serve = pouring(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536)
    assert f"longer than the {most} bytes" in refused(kind, serve)


@pytest.mark.parametrize(("kind", "most"), [("load", 65_536), ("query", 4_194_304)])
def test_a_huge_answer_is_an_error_before_it_comes(kind: str, most: int) -> None:
    serve = holding(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")
    assert refused(kind, serve) == f"the answer has 99999999 bytes, at most {most} are read"


@pytest.mark.parametrize("kind", ["load", "query"])
def test_an_endless_head_is_an_error_at_its_bound(kind: str) -> None:
    assert "head of the HTTP response is longer" in refused(kind, pouring(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n" * 100))


@pytest.mark.parametrize("kind", ["load", "query"])
def test_another_status_is_an_error(kind: str) -> None:
    assert refused(kind, answering(http(b"busy", "503 Busy"))) == "status 503, expected 200"


@pytest.mark.parametrize("kind", KINDS)
def test_a_closed_port_is_an_error(kind: str) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        with pytest.raises(SignalError, match="connection refused"):
            asyncio.run(ask(KINDS[kind](unheard.getsockname()[1]), 5.0))


def test_a_name_that_does_not_exist_is_an_error() -> None:
    for host in ("nobody.invalid", "a" * 64 + ".invalid", "a..b"):
        with pytest.raises(SignalError, match=f"the name {host} cannot be resolved"):
            asyncio.run(ask(QueryQuestion(f"http://{host}:9090", "up"), 5.0))


def test_every_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, port: int, **_options: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        assert host == "metrics.example"
        return [(2, 1, 6, "", (address, port)) for address in ("127.0.0.2", "127.0.0.1", "127.0.0.1")]

    async def scenario() -> Answer:
        async with listening(answering(http(VECTOR))) as port:
            with monkeypatch.context() as patch:
                patch.setattr(prometheus.socket, "getaddrinfo", resolve)
                return await ask(QueryQuestion(f"http://metrics.example:{port}", "up"), 30.0)

    assert isinstance(asyncio.run(scenario()), Samples)


@pytest.mark.parametrize("url", ["http://[::1", "http://host:99999", "ftp://host", "http://"])
def test_a_url_that_is_none_is_an_error(url: str) -> None:
    with pytest.raises(SignalError):
        asyncio.run(ask(QueryQuestion(url, "up"), 5.0))


def test_tls_to_a_port_without_it_is_an_error() -> None:
    async def scenario() -> None:
        async with listening(saying(http(b"no TLS"))) as port:
            await ask(QueryQuestion(f"https://127.0.0.1:{port}", "up"), 5.0)

    with pytest.raises(SignalError, match="TLS failed"):
        asyncio.run(scenario())


def test_what_this_node_lacks_is_said_to_be_its_own_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError(24, "refused")

    async def scenario() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(connection.socket, "socket", refuse)
            await ask(agent(80), 5.0)

    with pytest.raises(SignalError, match="could not ask: this process has no file descriptors left"):
        asyncio.run(scenario())


@pytest.mark.parametrize("kind", KINDS)
def test_a_cancelled_question_leaves_no_connection_behind(kind: str) -> None:
    async def scenario() -> None:
        ended = asyncio.Event()
        heard = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            heard.set()
            try:
                while await reader.read(4096):
                    pass
            finally:
                ended.set()

        async with listening(serve) as port:
            task = asyncio.create_task(ask(KINDS[kind](port), 60.0))
            await heard.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await ended.wait()

    asyncio.run(scenario())
