"""An emulated backend does the work that is asked for, and what its commands say. Without a network."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sluicegate_agent.lab.emulated import Backend, Connection, wanted


class Wire(asyncio.Transport):
    """The other end of a connection: what was written, and how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.ended = asyncio.get_running_loop().create_future()
        self.options: dict[int, bytes] = {}

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self if name == "socket" else default

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        assert level == socket.SOL_SOCKET
        self.options[option] = value

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def close(self) -> None:
        self.ended.set_result("closed")

    def abort(self) -> None:
        self.ended.set_result("aborted")


def connect(backend: Backend, request: bytes) -> tuple[Connection, Wire]:
    connection, wire = Connection(backend), Wire()
    connection.connection_made(wire)
    if request:
        connection.data_received(request)
    return connection, wire


def request(work: object) -> bytes:
    return f"GET /busy/{work} HTTP/1.1\r\nHost: lab\r\n\r\n".encode()


def run(scene: Callable[[Backend], Awaitable[None]]) -> None:
    async def play() -> None:
        await scene(Backend("backend-9", 1))

    asyncio.run(play())


def test_a_request_is_answered_with_the_name_once_its_work_is_done() -> None:
    async def scene(backend: Backend) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        _, wire = connect(backend, request(0.01))
        assert wire.written == b""
        assert await wire.ended == "closed"
        assert loop.time() - began >= 0.01
        assert wire.written.startswith(b"HTTP/1.1 200 ")
        assert wire.written.endswith(b"\r\n\r\nbackend-9")

    run(scene)


def test_a_request_may_come_in_pieces() -> None:
    async def scene(backend: Backend) -> None:
        connection, wire = connect(backend, b"")
        for byte in request(0):
            connection.data_received(bytes([byte]))
        assert await wire.ended == "closed"
        assert b"200" in wire.written

    run(scene)


def test_a_client_that_leaves_takes_its_work_with_it() -> None:
    async def scene(backend: Backend) -> None:
        leaving, gone = connect(backend, request(1e6))
        _, staying = connect(backend, request(0.001))
        leaving.connection_lost(None)
        assert await staying.ended == "closed"
        assert gone.written == b""
        assert not gone.ended.done()

    run(scene)


def test_a_hole_resets_requests_but_not_a_look_at_the_port() -> None:
    async def scene(backend: Backend) -> None:
        backend.obey("hole")
        _, look = connect(backend, b"")
        assert not look.ended.done()
        _, asked = connect(backend, request(0))
        assert asked.ended.result() == "aborted"
        assert struct.unpack("ii", asked.options[socket.SO_LINGER]) == (1, 0)
        assert asked.written == b""
        backend.obey("serve")
        _, served = connect(backend, request(0))
        assert await served.ended == "closed"

    run(scene)


def test_a_change_of_speed_counts_for_work_that_has_begun() -> None:
    async def scene(backend: Backend) -> None:
        _, wire = connect(backend, request(1000))
        backend.obey("speed 1e6")
        assert await wire.ended == "closed"

    run(scene)


@pytest.mark.parametrize("command", ["", "speed", "speed fast", "speed 0", "hole 1", "explode"])
def test_what_is_no_command_is_refused(command: str) -> None:
    async def scene(backend: Backend) -> None:
        with pytest.raises(ValueError):  # noqa: PT011  # the text is float()'s for one of them
            backend.obey(command)

    run(scene)


def test_the_work_that_a_request_asks_for() -> None:
    assert wanted(request(0.25)) == 0.25
    assert wanted(b"GET / HTTP/1.0\r\n\r\n") == 0.0


@pytest.mark.parametrize("work", ["-1", "nan", "inf", "", "much"])
def test_no_amount_of_work_is_answered_with_400(work: str) -> None:
    async def scene(backend: Backend) -> None:
        _, wire = connect(backend, request(work))
        assert await wire.ended == "closed"
        assert wire.written.startswith(b"HTTP/1.1 400 ")

    run(scene)


@pytest.mark.parametrize("head", [b"POST /busy/1 HTTP/1.1\r\n\r\n", b"\r\n\r\n", b"GET\r\n\r\n", b"x" * 9000])
def test_what_is_no_request_is_answered_with_400(head: bytes) -> None:
    async def scene(backend: Backend) -> None:
        _, wire = connect(backend, head)
        assert await wire.ended == "closed"
        assert wire.written.startswith(b"HTTP/1.1 400 ")

    run(scene)
