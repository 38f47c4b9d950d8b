import asyncio
import socket
import threading
from contextlib import contextmanager, suppress
from ipaddress import ip_address

import pytest

from sluicegate_agent.asking.http import LONGEST_HEAD
from sluicegate_agent.health.model import HttpQuestion, Result, Target
from sluicegate_agent.health.probe import probe
from virtual_time import run

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def target(port, address="127.0.0.1", *, seconds=5.0, path="/", host=None, expected=(200,)):
    question = HttpQuestion(path, host, frozenset(expected))
    return Target("a", ip_address(address), port, interval=10.0, timeout=seconds, rise=1, fall=1, http=question)


@contextmanager
def server(answer, address="127.0.0.1"):
    """A port whose first connection is handed to ``answer`` together with the request; its exceptions end the test."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    heard = []

    def serve():
        connection, _peer = listener.accept()
        connection.settimeout(10)
        with connection:
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                request += connection.recv(4096)
            heard.append(request)
            answer(connection)

    with socket.create_server((address, 0), family=family) as listener:
        listener.settimeout(10)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], heard
        finally:
            thread.join(20)


def until_closed(connection):
    """Wait for the end of the connection; True when it was a reset."""
    try:
        return connection.recv(1) != b""
    except ConnectionResetError:
        return True


def pour(connection, chunk, sent):
    """Send ``chunk`` again and again until the other side is gone."""
    with suppress(ConnectionResetError, BrokenPipeError):
        while True:
            sent.append(connection.send(chunk))


def check(answer, address="127.0.0.1", **options):
    """The outcome of one check and the request as the server saw it."""
    with server(answer, address) as (port, heard):
        outcome = asyncio.run(probe(target(port, address, **options)))
    return outcome, heard[0]


def saying(*parts):
    def answer(connection):
        for part in parts:
            connection.sendall(part)
        assert until_closed(connection)

    return answer


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_an_expected_status_passes_and_its_time_is_measured(address):
    outcome, _request = check(saying(OK), address)
    assert (outcome.result, outcome.reason) == (Result.PASSED, "status 200")
    assert 0 <= outcome.milliseconds < 5000


def test_the_request_names_path_and_host():
    _outcome, request = check(saying(OK), path="/healthz?deep=1", host="shop.example")
    line, *headers = request.decode().split("\r\n")
    assert line == "GET /healthz?deep=1 HTTP/1.1"
    assert "Host: shop.example" in headers
    assert "Connection: close" in headers


@pytest.mark.parametrize(("address", "host"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_without_a_host_the_address_and_port_are_named(address, host):
    with server(saying(OK), address) as (port, heard):
        asyncio.run(probe(target(port, address)))
    assert f"\r\nHost: {host}:{port}\r\n".encode() in heard[0]


def test_another_status_fails_with_both_named():
    outcome, _request = check(saying(b"HTTP/1.1 503 Service Unavailable\r\n\r\n"), expected=[204, 200])
    assert (outcome.result, outcome.reason) == (Result.FAILED, "status 503, expected 200 or 204")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 204 No Content\r\n\r\n",
        b"HTTP/1.1 204\r\n\r\n",
        b"HTTP/1.1 204 No Content\nServer: old\n\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    ],
    ids=["HTTP/1.0", "no reason phrase", "bare line feeds", "interim responses before it"],
)
def test_what_servers_may_say_is_understood(answer):
    outcome, _request = check(saying(answer), expected=[204])
    assert outcome.reason == "status 204"


def test_an_interim_status_that_is_expected_is_the_answer():
    outcome, _request = check(saying(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), expected=[101])
    assert outcome.reason == "status 101"


def test_a_body_without_end_is_not_read_and_the_connection_is_reset_at_once():
    sent = []

    def answer(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        pour(connection, bytes(65536), sent)

    outcome, _request = check(answer)
    assert (outcome.result, outcome.reason) == (Result.PASSED, "status 200")
    assert sum(sent) < 64 * 1024 * 1024  # what the sockets' buffers hold


def test_headers_without_end_fail_after_a_bounded_number_of_bytes():
    def answer(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        pour(connection, b"X-More: of the same\r\n", [])

    outcome, _request = check(answer)
    assert outcome.result is Result.FAILED
    assert outcome.reason == f"the head of the HTTP response is longer than {LONGEST_HEAD} bytes"


def test_interim_responses_without_end_count_against_the_same_bound():
    outcome, _request = check(lambda connection: pour(connection, b"HTTP/1.1 100 Continue\r\n\r\n", []))
    assert outcome.reason == f"the head of the HTTP response is longer than {LONGEST_HEAD} bytes"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "no HTTP: the answer begins with b'SSH-2.0-OpenSSH_'"),
        (b"\x00\xff", "no HTTP: the answer begins with b'\\x00\\xff'"),
        (b"HTTP/2 200\r\n\r\n", "no HTTP: the answer begins with b'HTTP/2 200\\r\\n\\r\\n'"),
        (b"HTTP/1.1 fine\r\n\r\n", "no HTTP: the answer begins with b'HTTP/1.1 fine\\r\\n\\r'"),
        (b"HTTP/1.1 0200 OK\r\n\r\n", "no HTTP: the answer begins with b'HTTP/1.1 0200 OK'"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "no HTTP: the port speaks TLS, and the check is plain HTTP"),
    ],
)
def test_what_is_no_http_is_shown_with_its_first_bytes(answer, reason):
    outcome, _request = check(saying(answer))
    assert (outcome.result, outcome.reason) == (Result.FAILED, reason)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "connection closed without an answer"),
        (b"HTTP/1.1 200 OK\r\n", "connection closed after 17 bytes, within the head of an HTTP response"),
    ],
)
def test_an_end_before_the_end_of_the_head_fails(answer, reason):
    outcome, _request = check(lambda connection: connection.sendall(answer))
    assert (outcome.result, outcome.reason) == (Result.FAILED, reason)


def test_a_reset_instead_of_an_answer_fails():
    def answer(connection):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    outcome, _request = check(answer)
    assert (outcome.result, outcome.reason) == (Result.FAILED, "connection reset")


async def accept(listener):
    """The next connection, without letting virtual time pass."""
    listener.setblocking(False)
    while True:
        try:
            return listener.accept()[0]
        except BlockingIOError:
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("begin", "reason"),
    [
        (b"", "connected, but no HTTP response within 0.75 s"),
        (b"HTTP/1.1 200 OK\r\n", "the head of the HTTP response was not complete within 0.75 s (17 bytes came)"),
    ],
)
def test_a_server_that_hangs_fails_after_the_timeout(begin, reason):
    async def scenario(listener):
        checking = asyncio.create_task(probe(target(listener.getsockname()[1], seconds=0.75)))
        with await accept(listener) as connection:
            connection.sendall(begin)
            return await checking, asyncio.get_running_loop().time()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        outcome, took = run(scenario(listener))
    assert (outcome.result, outcome.reason) == (Result.FAILED, reason)
    assert took == pytest.approx(0.75)


def test_an_answer_that_comes_byte_by_byte_is_understood():
    async def scenario(listener):
        checking = asyncio.create_task(probe(target(listener.getsockname()[1], seconds=100)))
        with await accept(listener) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in OK.removesuffix(b"hi"):
                assert not checking.done()
                connection.sendall(bytes([byte]))
                await asyncio.sleep(1)
            return await checking

    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert run(scenario(listener)).reason == "status 200"


def test_time_is_bounded_as_a_whole_and_not_for_each_byte():
    async def scenario(listener):
        checking = asyncio.create_task(probe(target(listener.getsockname()[1], seconds=1.0)))
        with await accept(listener) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while not checking.done():
                connection.sendall(b"A")
                await asyncio.sleep(0.3)
            return await checking, asyncio.get_running_loop().time()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        outcome, took = run(scenario(listener))
    assert outcome.reason == "the head of the HTTP response was not complete within 1 s (21 bytes came)"
    assert took == pytest.approx(1.2)


def test_a_closed_port_fails_as_with_tcp():
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        outcome = asyncio.run(probe(target(unheard.getsockname()[1])))
    assert (outcome.result, outcome.reason) == (Result.FAILED, "connection refused")
