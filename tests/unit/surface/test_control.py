"""The control socket: server and client together, and what goes wrong between them."""

import asyncio
import socket
import stat
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sluicegate_agent.control.client import (
    AgentUnreachableError,
    AmbiguousAgentError,
    CommandFailedError,
    ask,
    find_socket,
)
from sluicegate_agent.control.protocol import JsonObject, MalformedMessageError, Request, Response
from sluicegate_agent.control.server import CommandRefusedError, ControlServer, remove_stale
from sluicegate_agent.failure import StartError


async def echo(arguments: dict[str, str]) -> JsonObject:
    return dict(arguments)


async def refuse(arguments: dict[str, str]) -> JsonObject:
    raise CommandRefusedError("there is no load balancer shop/web")


async def crash(arguments: dict[str, str]) -> JsonObject:
    raise RuntimeError("a defect")


HANDLERS: dict[str, Callable[[dict[str, str]], Awaitable[JsonObject]]] = {
    "echo": echo,
    "refuse": refuse,
    "crash": crash,
}


def with_server(path: Path, question: Callable[[], JsonObject]) -> JsonObject:
    async def run() -> JsonObject:
        async with ControlServer(path, HANDLERS):
            return await asyncio.to_thread(question)

    return asyncio.run(run())


@contextmanager
def listener(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen(4)
        yield server


@contextmanager
def peer(path: Path, behave: Callable[[socket.socket], None]) -> Iterator[None]:
    """A server that does with its one connection whatever a test wants."""

    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            behave(connection)

    with listener(path) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        try:
            yield
        finally:
            thread.join()


def test_an_answer_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "host.sock"
    answer = with_server(path, lambda: ask(path, Request("echo", {"target": "lb/web"})))
    assert answer == {"target": "lb/web"}


def test_the_socket_is_its_owners_alone_and_goes_with_the_agent(tmp_path: Path) -> None:
    path = tmp_path / "run" / "host.sock"
    modes: list[int] = []

    def look() -> JsonObject:
        modes.append(stat.S_IMODE(path.stat().st_mode))
        return {}

    with_server(path, look)
    assert modes == [0o600]
    assert not path.exists()


def test_a_refusal_reaches_the_person_who_asked(tmp_path: Path) -> None:
    path = tmp_path / "host.sock"
    with pytest.raises(CommandFailedError, match="no load balancer shop/web"):
        with_server(path, lambda: ask(path, Request("refuse")))


def test_an_unknown_command_names_those_that_exist(tmp_path: Path) -> None:
    path = tmp_path / "host.sock"
    with pytest.raises(CommandFailedError, match="crash, echo, refuse"):
        with_server(path, lambda: ask(path, Request("fly")))


def test_a_defect_in_a_command_is_an_answer_and_the_agent_lives_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "host.sock"

    def question() -> JsonObject:
        with pytest.raises(CommandFailedError, match="its log"):
            ask(path, Request("crash"))
        return ask(path, Request("echo", {"still": "here"}))

    assert with_server(path, question) == {"still": "here"}
    assert "a defect" in caplog.text


@pytest.mark.parametrize("line", [b"nonsense\n", b"[]\n", b'{"command": 3}\n', b"\n", b"\xff\xfe\n"])
def test_a_malformed_request_is_answered_with_an_error(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "host.sock"

    def question() -> JsonObject:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(str(path))
            connection.sendall(line)
            answer = Response.decode(connection.makefile("rb").readline())
        return {"error": answer.error or ""}

    assert str(with_server(path, question)["error"]).startswith("the request")


def test_an_endless_request_closes_the_connection(tmp_path: Path) -> None:
    path = tmp_path / "host.sock"

    def question() -> JsonObject:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(str(path))
            try:
                connection.sendall(b"x" * 300_000)
                return {"rest": connection.recv(16).decode()}
            except ConnectionError:
                return {"rest": ""}

    assert with_server(path, question) == {"rest": ""}


def test_a_socket_left_by_a_killed_agent_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "host.sock"
    with listener(path):
        pass
    assert path.exists()
    assert with_server(path, lambda: ask(path, Request("echo"))) == {}


def test_only_a_dead_agents_socket_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "host.sock"
    with listener(path):
        remove_stale(path)
        assert path.exists()
    remove_stale(path)
    assert not path.exists()
    remove_stale(path)


def test_a_living_agents_socket_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "host.sock"
    with listener(path), pytest.raises(StartError, match="another agent"):
        with_server(path, dict)


def test_nobody_there_says_how_to_start_an_agent(tmp_path: Path) -> None:
    with pytest.raises(AgentUnreachableError) as caught:
        ask(tmp_path / "no.sock", Request("status"))
    assert "sluicegate run" in caught.value.next
    with pytest.raises(AgentUnreachableError):
        find_socket(directory=tmp_path / "none")


def test_an_agent_that_hangs_up_or_talks_nonsense_is_named(tmp_path: Path) -> None:
    with peer(tmp_path / "a.sock", socket.socket.close), pytest.raises(AgentUnreachableError):
        ask(tmp_path / "a.sock", Request("status"))

    def nonsense(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"{}\n")

    with peer(tmp_path / "b.sock", nonsense), pytest.raises(AgentUnreachableError, match="neither"):
        ask(tmp_path / "b.sock", Request("status"))


def test_a_silent_agent_is_given_up_on(tmp_path: Path) -> None:
    with listener(tmp_path / "a.sock"), pytest.raises(AgentUnreachableError, match="did not answer"):
        ask(tmp_path / "a.sock", Request("status"), timeout=0.05)


def test_the_only_socket_is_taken_and_a_named_one_needs_no_search(tmp_path: Path) -> None:
    with listener(tmp_path / "blue.sock"):
        assert find_socket(directory=tmp_path) == tmp_path / "blue.sock"
        assert find_socket("green", directory=tmp_path) == tmp_path / "green.sock"
        assert find_socket("green", tmp_path / "x", directory=tmp_path) == tmp_path / "x"


def test_two_agents_must_be_told_apart_but_dead_ones_do_not_count(tmp_path: Path) -> None:
    with listener(tmp_path / "blue.sock"):
        with listener(tmp_path / "green.sock"), pytest.raises(AmbiguousAgentError) as caught:
            find_socket(directory=tmp_path)
        assert "--netns blue" in str(caught.value)
        assert "green.sock" in str(caught.value)
        assert find_socket(directory=tmp_path) == tmp_path / "blue.sock"


def test_requests_survive_the_wire() -> None:
    request = Request("why", {"target": "lb/wéb\n"})
    assert Request.decode(request.encode()) == request
    assert request.encode().count(b"\n") == 1
    with pytest.raises(MalformedMessageError):
        Response.decode(b"{")
