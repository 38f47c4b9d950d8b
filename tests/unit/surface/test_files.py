"""Following configuration files."""

import os
from pathlib import Path

import pytest

from sluicegate_agent.source import files
from sluicegate_agent.source.files import Files, FileWatcher


def poll_twice(watcher: FileWatcher) -> Files | None:
    return watcher.poll() or watcher.poll()


def test_the_first_look_reads_everything_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a")
    found = FileWatcher([str(tmp_path / "a.yaml")]).poll()
    assert found == Files({str(tmp_path / "a.yaml"): "a"})


def test_nothing_changed_is_no_news(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a")
    watcher = FileWatcher([str(tmp_path)])
    watcher.poll()
    assert watcher.poll() is None
    assert not watcher.unsettled


def test_a_change_counts_only_once_it_has_settled(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("old")
    watcher = FileWatcher([str(file)])
    watcher.poll()
    file.write_text("")
    assert watcher.poll() is None
    assert watcher.unsettled
    file.write_text("new text")
    assert watcher.poll() is None
    assert watcher.poll() == Files({str(file): "new text"})


def test_a_folder_gives_its_yaml_and_json_files_by_name(tmp_path: Path) -> None:
    for name in ("b.yml", "a.yaml", "c.json", "notes.txt", ".hidden.yaml", "a.yaml~"):
        (tmp_path / name).write_text(name)
    (tmp_path / "deeper.yaml").mkdir()
    found = FileWatcher([str(tmp_path)]).poll()
    assert found is not None
    assert list(found.texts.values()) == ["a.yaml", "b.yml", "c.json"]


def test_a_glob_is_followed_as_files_come_and_go(tmp_path: Path) -> None:
    watcher = FileWatcher([str(tmp_path / "lb-*.yaml")])
    first = watcher.poll()
    assert first is not None
    assert first.missing == (str(tmp_path / "lb-*.yaml"),)
    (tmp_path / "lb-1.yaml").write_text("one")
    found = poll_twice(watcher)
    assert found is not None
    assert list(found.texts.values()) == ["one"]
    (tmp_path / "lb-1.yaml").unlink()
    assert poll_twice(watcher) == first


def test_a_replaced_file_of_the_same_size_and_time_is_seen(tmp_path: Path) -> None:
    file, other = tmp_path / "a.yaml", tmp_path / "b"
    file.write_text("one")
    watcher = FileWatcher([str(file)])
    watcher.poll()
    status = file.stat()
    other.write_text("two")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(file)
    assert poll_twice(watcher) == Files({str(file): "two"})


def test_what_cannot_be_read_is_named_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 8)
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"caf\xe9")
    (tmp_path / "large.yaml").write_text("123456789")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    found = FileWatcher([str(tmp_path)]).poll()
    assert found is not None
    assert found.texts == {}
    reasons = {Path(name).stem: reason for name, reason in found.unreadable.items()}
    assert "regular" in reasons["fifo"]
    assert "byte 3" in reasons["latin"]
    assert "larger" in reasons["large"]
    assert "symbolic links" in reasons["loop"]


def test_a_missing_file_is_told_from_an_unreadable_one(tmp_path: Path) -> None:
    name = str(tmp_path / "no.yaml")
    assert FileWatcher([name]).poll() == Files(missing=(name,))


def test_a_folder_that_fails_for_a_moment_keeps_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.yaml").write_text("a")
    watcher = FileWatcher([str(tmp_path)])
    watcher.poll()

    def broken(path: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "scandir", broken)
    assert watcher.poll() is None
    assert not watcher.unsettled


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfkind: X")
    found = FileWatcher([str(tmp_path)]).poll()
    assert found is not None
    assert list(found.texts.values()) == ["kind: X"]
