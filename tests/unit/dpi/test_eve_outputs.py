"""Outputs of events: whole lines, rotation between them, and what a full disk leaves."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sluicegate_agent.dpi.events.outputs import FileOutput, OutputError

LINES = [b'{"line":%d}\n' % number for number in range(100)]


def test_a_file_is_appended_to_or_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "eve.json"
    for fresh in (False, False, True):
        output = FileOutput(path, fresh=fresh)
        output.write(LINES)
        output.close()
    assert path.read_bytes() == b"".join(LINES)
    assert (output.written, output.lost, output.problem) == (100, 0, "")


def test_a_full_file_is_renamed_between_two_lines(tmp_path: Path) -> None:
    path = tmp_path / "eve.json"
    output = FileOutput(path, max_bytes=300, keep=3)
    for start in range(0, 100, 10):
        output.write(LINES[start : start + 10])
    output.close()
    files = [path.with_name("eve.json.3"), path.with_name("eve.json.2"), path.with_name("eve.json.1"), path]
    parts = [file.read_bytes() for file in files]
    assert all(len(part) <= 300 and part.endswith(b"\n") for part in parts)
    assert b"".join(LINES).endswith(b"".join(parts))
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(file.name for file in files)


def test_a_full_disk_leaves_whole_lines_and_counts_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "eve.json"
    output = FileOutput(path)
    real_write, room = os.write, [35]

    def write(file: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = real_write(file, data[: room[0]])
        room[0] -= done
        return done

    monkeypatch.setattr(os, "write", write)
    output.write(LINES[:10])
    assert path.read_bytes() == b"".join(LINES[:3])
    assert (output.written, output.lost) == (3, 7)
    assert "No space left" in output.problem
    room[0] = 1000
    output.write(LINES[10:12])
    output.close()
    assert path.read_bytes() == b"".join(LINES[:3] + LINES[10:12])


def test_a_file_that_cannot_be_opened_is_refused_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written: No such file"):
        FileOutput(tmp_path / "nowhere" / "eve.json")
