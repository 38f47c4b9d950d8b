import asyncio
import errno
import socket
from ipaddress import ip_address

import pytest

from sluicegate_agent.asking import connection
from sluicegate_agent.health import tcp
from sluicegate_agent.health.model import Outcome, Result, Target
from virtual_time import run


def target(port, address="127.0.0.1", seconds=5.0):
    return Target("a", ip_address(address), port, interval=10.0, timeout=seconds, rise=1, fall=1)


@pytest.fixture(params=["127.0.0.1", "::1"])
def listener(request):
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.create_server((request.param, 0), family=family, backlog=8) as server:
        yield server


def test_an_open_port_passes_and_its_time_is_measured(listener):
    address, port = listener.getsockname()[:2]
    outcome = asyncio.run(tcp.check_tcp(target(port, address)))
    assert (outcome.result, outcome.reason) == (Result.PASSED, "connected")
    assert 0 <= outcome.milliseconds < 5000


def test_the_connection_ends_with_a_reset(listener):
    address, port = listener.getsockname()[:2]
    asyncio.run(tcp.check_tcp(target(port, address)))
    accepted, _peer = listener.accept()
    with accepted, pytest.raises(ConnectionResetError):
        accepted.recv(1)


def test_a_closed_port_fails_with_its_reason():
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        outcome = asyncio.run(tcp.check_tcp(target(unheard.getsockname()[1])))
    assert outcome == Outcome(Result.FAILED, "connection refused")


@pytest.fixture
def deaf_port():
    """A port whose queue of connections is full, so that the kernel drops further SYNs."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        waiting = [socket.socket() for _ in range(2)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield server.getsockname()[1]
        for client in waiting:
            client.close()


def test_silence_fails_after_the_timeout(deaf_port):
    async def scenario():
        outcome = await tcp.check_tcp(target(deaf_port, seconds=0.75))
        return outcome, asyncio.get_running_loop().time()

    outcome, took = run(scenario())
    assert outcome == Outcome(Result.FAILED, "no answer within 0.75 s")
    assert took == pytest.approx(0.75)


def test_an_answer_that_came_while_this_process_was_stalled_counts():
    async def scenario(port):
        loop = asyncio.get_running_loop()
        check = asyncio.create_task(tcp.check_tcp(target(port, seconds=1.0)))
        await asyncio.sleep(0)  # the connection is on its way
        loop.advance(30)
        return await check

    with socket.create_server(("127.0.0.1", 0)) as server:
        assert run(scenario(server.getsockname()[1])).result is Result.PASSED


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS])
def test_what_this_node_lacks_is_not_held_against_the_target(monkeypatch, code):
    def refuse(*_arguments, **_options):
        raise OSError(code, "refused")

    async def scenario():
        with monkeypatch.context() as patch:
            patch.setattr(connection.socket, "socket", refuse)
            return await tcp.check_tcp(target(80))

    outcome = asyncio.run(scenario())
    assert outcome.result is Result.INCONCLUSIVE
    assert outcome.reason.startswith("could not check: this ")


def test_no_descriptor_is_left_after_a_cancelled_check(deaf_port):
    async def scenario():
        check = asyncio.create_task(tcp.check_tcp(target(deaf_port)))
        await asyncio.sleep(0)
        check.cancel()
        await asyncio.gather(check, return_exceptions=True)

    run(scenario())  # a socket left open would warn, and warnings are errors
