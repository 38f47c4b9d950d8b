"""Answers that go on: they end when either side does, and a reader that does not read holds up nobody."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from sluicegate_agent.control.client import AgentUnreachableError, CommandFailedError, ask, stream
from sluicegate_agent.control.protocol import Request, Response, about_stream, stream_line
from sluicegate_agent.control.server import CommandRefusedError, ControlServer, Stream


class Source:
    """Streams for tests. ``waiting``: somebody asks for more than there is; ``ended``: the stream was closed."""

    def __init__(self) -> None:
        self.waiting, self.ended = asyncio.Event(), asyncio.Event()

    async def count(self, arguments: dict[str, str]) -> Stream:
        return Stream({"to": arguments["to"]}, self._count(int(arguments["to"])))

    async def endless(self, arguments: dict[str, str]) -> Stream:
        del arguments
        return Stream({}, self._endless())

    async def silent(self, arguments: dict[str, str]) -> Stream:
        del arguments
        return Stream({}, self._silent())

    async def refused(self, arguments: dict[str, str]) -> Stream:
        del arguments
        raise CommandRefusedError("nothing can be observed")

    async def broken(self, arguments: dict[str, str]) -> Stream:
        del arguments
        return Stream({}, self._broken())

    async def ping(self, arguments: dict[str, str]) -> dict[str, object]:
        return dict(arguments)

    async def _count(self, to: int) -> AsyncGenerator[bytes, None]:
        for number in range(to):
            yield b'{"n": %d}\n' % number
        yield stream_line(end="complete")

    async def _endless(self) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b'{"x": "%b"}\n' % (b"x" * 65_536)
        finally:
            self.ended.set()

    async def _silent(self) -> AsyncGenerator[bytes, None]:
        try:
            yield b'{"n": 1}\n'
            self.waiting.set()
            await asyncio.Event().wait()
        finally:
            self.ended.set()

    async def _broken(self) -> AsyncGenerator[bytes, None]:
        yield b'{"n": 1}\n'
        raise RuntimeError("a defect")

    def server(self, path: Path) -> ControlServer:
        streams = {name: getattr(self, name) for name in ("count", "endless", "silent", "refused", "broken")}
        return ControlServer(path, {"ping": self.ping}, streams)


def read_all(path: Path, request: Request) -> tuple[object, list[bytes]]:
    with stream(path, request) as (head, lines):
        return head, list(lines)


def test_a_stream_has_a_head_its_lines_and_an_end(tmp_path: Path) -> None:
    async def run() -> tuple[object, list[bytes]]:
        async with Source().server(tmp_path / "s") as _:
            return await asyncio.to_thread(read_all, tmp_path / "s", Request("count", {"to": "5000"}))

    head, lines = asyncio.run(run())
    assert head == {"to": "5000"}
    assert lines[:-1] == [b'{"n": %d}\n' % number for number in range(5000)]
    assert about_stream(lines[-1]) == {"end": "complete"}
    assert about_stream(lines[0]) is None


def test_a_stream_that_is_refused_says_why(tmp_path: Path) -> None:
    async def run(command: str) -> None:
        async with Source().server(tmp_path / "s"):
            await asyncio.to_thread(read_all, tmp_path / "s", Request(command))

    with pytest.raises(CommandFailedError, match="nothing can be observed"):
        asyncio.run(run("refused"))
    with pytest.raises(CommandFailedError, match="knows broken, count, endless, ping, refused, silent"):
        asyncio.run(run("unknown"))


def test_a_stream_that_breaks_is_no_complete_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        async with Source().server(tmp_path / "s"):
            await asyncio.to_thread(read_all, tmp_path / "s", Request("broken"))

    with pytest.raises(AgentUnreachableError, match="has gone"):
        asyncio.run(run())
    assert "a defect" in caplog.text


def test_a_stream_ends_with_its_reader(tmp_path: Path) -> None:
    async def run() -> None:
        source = Source()
        async with source.server(tmp_path / "s"), asyncio.timeout(30):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
            writer.write(Request("silent").encode())
            Response.decode(await reader.readline())
            await source.waiting.wait()
            writer.close()
            await source.ended.wait()

    asyncio.run(run())


def test_a_stream_ends_with_the_agent(tmp_path: Path) -> None:
    async def run() -> None:
        source = Source()
        async with asyncio.timeout(30), source.server(tmp_path / "s"):
            reading = asyncio.create_task(asyncio.to_thread(read_all, tmp_path / "s", Request("silent")))
            await source.waiting.wait()
        assert source.ended.is_set()
        await reading

    with pytest.raises(AgentUnreachableError, match="has gone"):
        asyncio.run(run())


def test_a_reader_that_does_not_read_holds_up_nobody(tmp_path: Path) -> None:
    async def run() -> None:
        source = Source()
        async with source.server(tmp_path / "s"), asyncio.timeout(30):
            with socket.socket(socket.AF_UNIX) as lazy:
                lazy.connect(str(tmp_path / "s"))
                lazy.sendall(Request("endless").encode())
                for number in range(10):
                    answer = await asyncio.to_thread(ask, tmp_path / "s", Request("ping", {"n": str(number)}))
                    assert answer == {"n": str(number)}
            await source.ended.wait()

    asyncio.run(run())
