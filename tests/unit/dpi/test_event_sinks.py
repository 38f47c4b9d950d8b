"""Files, standard output and sockets of live events: whole lines, whatever becomes of disk and readers."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sluicegate_agent.dpi.events import sinks
from sluicegate_agent.dpi.events.sinks import FileSink, SocketSink, StdoutSink

LINES = [b'{"timestamp":"2026","line":%d}\n' % number for number in range(100)]
LARGE = [b'{"timestamp":"2026","text":"%b"}\n' % (b"%d" % (number % 10) * 10_000) for number in range(200)]


def write_all(sink: FileSink | SocketSink | StdoutSink, lines: list[bytes]) -> None:
    """As a writer does it while the reader is merely slow."""
    while lines:
        done = sink.write(lines)
        assert not sink.problem
        lines = lines[done:]


# --- files ---


def test_a_renamed_file_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "eve.json"
    sink = FileSink(path, 1 << 20, 5)
    write_all(sink, LINES[:10])
    path.rename(tmp_path / "taken")
    write_all(sink, LINES[10:20])
    path.unlink()
    write_all(sink, LINES[20:30])
    sink.close()
    assert (tmp_path / "taken").read_bytes() == b"".join(LINES[:10])
    assert path.read_bytes() == b"".join(LINES[20:30])


def test_a_file_that_was_emptied_goes_on_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "eve.json"
    sink = FileSink(path, 2000, 5)
    for _ in range(10):
        write_all(sink, LINES[:30])
        os.truncate(path, 0)
    write_all(sink, LINES[:30])
    sink.close()
    assert path.read_bytes() == b"".join(LINES[:30])
    assert [file.name for file in tmp_path.iterdir()] == ["eve.json"]  # it never was as large as its limit


def test_new_limits_count_from_the_next_line_on(tmp_path: Path) -> None:
    path = tmp_path / "eve.json"
    sink = FileSink(path, 1 << 20, 5)
    write_all(sink, LINES[:50])
    sink.limit(300, 2)
    write_all(sink, LINES[50:])
    sink.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["eve.json", "eve.json.1", "eve.json.2"]
    assert path.read_bytes().endswith(LINES[-1])


def test_the_folder_is_made_but_not_its_parents(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "logs" / "eve.json", 1 << 20, 5)
    write_all(sink, LINES[:1])
    sink.close()
    deep = FileSink(tmp_path / "no" / "where" / "eve.json", 1 << 20, 5)
    assert deep.write(LINES) == 0
    assert deep.problem == f"{tmp_path}/no/where/eve.json cannot be written: No such file or directory"
    (tmp_path / "no").mkdir()
    write_all(deep, LINES)
    deep.close()


def test_a_pipe_or_a_device_is_no_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        for path in (pipe, Path("/dev/null")):
            sink = FileSink(path, 1 << 20, 5)
            assert sink.write(LINES) == 0
            assert "is not a regular file" in sink.problem
            sink.close()
    finally:
        os.close(reader)


def test_a_full_disk_keeps_whole_lines_and_takes_the_rest_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "eve.json"
    sink = FileSink(path, 1 << 20, 5)
    real_write, room = os.write, [len(LINES[0]) * 3 + 5]

    def write(file: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = real_write(file, data[: room[0]])
        room[0] -= done
        return done

    monkeypatch.setattr(os, "write", write)
    assert sink.write(LINES) == 3
    assert sink.problem == f"{path} cannot be written: No space left on device"
    assert path.read_bytes() == b"".join(LINES[:3])
    assert sink.write(LINES[3:]) == 0
    room[0] = 1 << 20
    write_all(sink, LINES[3:])
    sink.close()
    assert path.read_bytes() == b"".join(LINES)


def test_a_full_disk_while_a_file_is_full_mixes_up_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "eve.json"
    sink = FileSink(path, 10 * len(LINES[0]), 20)
    real_write, room = os.write, [len(LINES[0]) * 7]

    def write(file: int, data: bytes) -> int:
        if room[0] < len(data):
            raise OSError(errno.ENOSPC, "No space left on device")
        room[0] -= len(data)
        return real_write(file, data)

    monkeypatch.setattr(os, "write", write)
    done = sink.write(LINES[:9])
    assert done == 0
    done += sink.write(LINES[:15])  # the first ten do not fit on the disk, and the next five would
    room[0] = 1 << 20
    write_all(sink, LINES[done:])
    sink.close()
    parts = [file.read_bytes() for file in (*sorted(tmp_path.glob("eve.json.*"), key=number_of, reverse=True), path)]
    assert b"".join(parts) == b"".join(LINES)


def number_of(file: Path) -> int:
    return int(file.suffix[1:])


def test_a_full_file_that_cannot_be_renamed_grows_no_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "eve.json"
    sink = FileSink(path, 300, 2)

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        done = sink.write(LINES)
        assert sink.write(LINES[done:]) == 0
        assert sink.problem == f"{path} is full and cannot be renamed: Operation not permitted"
        assert 0 < path.stat().st_size <= 300
    write_all(sink, LINES[done:])
    sink.close()
    assert b"".join(LINES).endswith(path.with_name("eve.json.1").read_bytes() + path.read_bytes())


# --- standard output ---


class Reader:
    """Reads all from a descriptor in a thread, so that a writer never waits for long."""

    def __init__(self, file: int) -> None:
        self.data = bytearray()
        self._file = file
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while data := os.read(self._file, 65_536):
            self.data += data

    def result(self) -> bytes:
        self._thread.join(30)
        return bytes(self.data)


def test_standard_output_gets_every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    reader = Reader(reading)
    write_all(StdoutSink(writing), LARGE)
    os.close(writing)
    assert reader.result() == b"".join(LARGE)
    os.close(reading)


def test_a_pipe_that_nobody_reads_holds_up_for_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "SLOW_SECONDS", 0.0)
    reading, writing = os.pipe()
    sink = StdoutSink(writing)
    done = sink.write(LARGE)
    assert 0 < done < len(LARGE)
    assert sink.write(LARGE[done:]) == 0
    assert not sink.problem
    reader = Reader(reading)  # it comes late, and misses nothing
    rest = LARGE[done:]
    while rest:
        rest = rest[sink.write(rest) :]
    os.close(writing)
    assert reader.result() == b"".join(LARGE)
    os.close(reading)


def test_a_reader_of_standard_output_that_is_gone_is_named() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    sink = StdoutSink(writing)
    assert sink.write(LINES) == 0
    assert sink.problem == "standard output cannot be written: Broken pipe"
    os.close(writing)


# --- sockets ---


@contextmanager
def collector(path: Path, kind: socket.SocketKind = socket.SOCK_STREAM) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, kind) as listener:
        listener.bind(str(path))
        if kind == socket.SOCK_STREAM:
            listener.listen()
        listener.settimeout(30)
        yield listener
    path.unlink()


def received(connection: socket.socket) -> bytes:
    with connection:
        return Reader(connection.fileno()).result()


def test_a_collector_that_listens_gets_every_line(tmp_path: Path) -> None:
    path = tmp_path / "eve.sock"
    sink = SocketSink(str(path))
    with collector(path) as listener:
        write_all(sink, LARGE[:1])
        connection, _ = listener.accept()
        reader = Reader(connection.fileno())
        write_all(sink, LARGE[1:])
        sink.close()
        assert reader.result() == b"".join(LARGE)
        connection.close()


def test_without_a_collector_the_lines_wait(tmp_path: Path) -> None:
    path = tmp_path / "eve.sock"
    sink = SocketSink(str(path))
    for _ in range(2):
        assert sink.write(LINES) == 0
        assert sink.problem == f"nobody listens on {path}"
    with collector(path) as listener:
        write_all(sink, LINES)
        sink.close()
        assert received(listener.accept()[0]) == b"".join(LINES)


def test_a_collector_that_comes_back_gets_the_cut_line_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "SLOW_SECONDS", 0.01)
    path = tmp_path / "eve.sock"
    sink = SocketSink(str(path))
    with collector(path) as listener:
        done = sink.write(LARGE)  # as much as the kernel takes
        assert 0 < done < len(LARGE)
        listener.accept()[0].close()
        more = sink.write(LARGE[done:])
        connection, _ = listener.accept()
        reader = Reader(connection.fileno())
        write_all(sink, LARGE[done + more :])
        sink.close()
        assert reader.result() == b"".join(LARGE[done:])
        connection.close()


def test_a_collector_that_left_while_nothing_came_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "eve.sock"
    sink = SocketSink(str(path))
    with collector(path) as listener:
        write_all(sink, LINES[:50])
        first, _ = listener.accept()
        assert first.recv(65_536) == b"".join(LINES[:50])
        first.close()
        write_all(sink, LINES[50:])
        sink.close()
        assert received(listener.accept()[0]) == b"".join(LINES[50:])


def test_a_collector_that_does_not_read_holds_up_for_a_moment_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "SLOW_SECONDS", 0.01)
    path = tmp_path / "eve.sock"
    sink = SocketSink(str(path))
    with collector(path) as listener:
        done = sink.write(LARGE)
        assert 0 < done < len(LARGE)
        assert sink.write(LARGE[done:]) == 0
        assert not sink.problem
        connection, _ = listener.accept()
        reader = Reader(connection.fileno())
        write_all(sink, LARGE[done:])
        sink.close()
        assert reader.result() == b"".join(LARGE)
        connection.close()


def test_a_socket_of_another_kind_is_named(tmp_path: Path) -> None:
    path = tmp_path / "eve.sock"
    sink = SocketSink(str(path))
    with collector(path, socket.SOCK_DGRAM):
        assert sink.write(LINES) == 0
    assert sink.problem == f"{path} is a datagram socket; a stream socket is needed"
