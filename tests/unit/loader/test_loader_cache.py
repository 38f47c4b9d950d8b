"""The cache of compiled files: what it trusts, what it keeps, and that it never stands in the way."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluicegate_agent.loader import cache
from sluicegate_agent.loader.cache import KEPT, ProgramCache, opened
from sluicegate_agent.loader.image import FunctionImage, UnitImage
from sluicegate_agent.loader.toolchain import FileIdentity

IMAGE = UnitImage("GPL", (), {"main": FunctionImage(bytes(16), ((0, "flows"),))})
DIGEST = "d" * 64


class Lines(list[str]):
    """What was said."""

    __call__ = list.append


@pytest.fixture
def said() -> Lines:
    return Lines()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "sluicegate" / "programs"


@pytest.fixture
def kept(directory: Path, said: Lines) -> Iterator[ProgramCache]:
    with opened(directory, said) as found:
        assert found is not None
        yield found


def entry(directory: Path, digest: str = DIGEST) -> Path:
    return directory / f"{digest}.json"


def test_what_was_kept_is_found_under_its_digest_alone(kept: ProgramCache, said: Lines) -> None:
    assert kept.get(DIGEST) is None
    kept.put(DIGEST, IMAGE, ())
    assert kept.get(DIGEST) == IMAGE
    assert kept.get("e" * 64) is None
    assert said == []


def test_nobody_else_may_read_or_write_what_is_kept(kept: ProgramCache, directory: Path) -> None:
    kept.put(DIGEST, IMAGE, ())
    assert directory.stat().st_mode & 0o777 == 0o700
    assert entry(directory).stat().st_mode & 0o777 == 0o600
    assert not directory.parent.stat().st_mode & 0o022


def test_without_a_directory_nothing_is_kept_and_nothing_said(said: Lines) -> None:
    with opened(None, said) as found:
        assert found is None
    assert said == []


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_directory_that_others_may_write_is_not_used(directory: Path, said: Lines, mode: int) -> None:
    directory.mkdir(parents=True)
    directory.chmod(mode)
    with opened(directory, said) as found:
        assert found is None
    assert said == [
        f"warning: compiled programs are not kept in {directory}: others may write it (mode {mode:o}); remove it"
    ]


def test_a_directory_of_another_user_is_not_used(directory: Path, said: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    directory.mkdir(parents=True, mode=0o700)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with opened(directory, said) as found:
        assert found is None
    assert f"it belongs to the user {owner}, not to {owner + 1}; remove it" in said[0]


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path, said: Lines) -> None:
    (tmp_path / "file").write_text("")
    with opened(tmp_path / "file" / "programs", said) as found:
        assert found is None
    assert said[0].startswith(f"warning: compiled programs are not kept in {tmp_path}/file/programs: ")


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content.replace(b"GPL", b"MIT"),
        lambda content: content[:0],
        lambda content: b"0" * 64 + content[64:],
    ],
    ids=["cut", "changed", "empty", "another head"],
)
def test_a_damaged_entry_is_left_aside_and_written_anew(
    kept: ProgramCache, directory: Path, said: Lines, damage: object
) -> None:
    kept.put(DIGEST, IMAGE, ())
    assert callable(damage)
    entry(directory).write_bytes(damage(entry(directory).read_bytes()))
    assert kept.get(DIGEST) is None
    assert said == [f"warning: the cache's entry {DIGEST}.json is not used: it is damaged"]
    kept.put(DIGEST, IMAGE, ())
    assert kept.get(DIGEST) == IMAGE


def test_an_entry_of_something_else_is_not_taken_for_what_its_name_says(
    kept: ProgramCache, directory: Path, said: Lines
) -> None:
    kept.put("e" * 64, IMAGE, ())
    entry(directory, "e" * 64).rename(entry(directory))
    assert kept.get(DIGEST) is None
    assert "it was made of something else" in said[0]


def test_an_entry_that_others_may_write_is_not_used(kept: ProgramCache, directory: Path, said: Lines) -> None:
    kept.put(DIGEST, IMAGE, ())
    entry(directory).chmod(0o602)
    assert kept.get(DIGEST) is None
    assert "others may write it" in said[0]


def test_a_link_or_a_pipe_in_the_place_of_an_entry_is_not_followed(
    kept: ProgramCache, directory: Path, said: Lines, tmp_path: Path
) -> None:
    kept.put(DIGEST, IMAGE, ())
    entry(directory).rename(tmp_path / "elsewhere")
    entry(directory).symlink_to(tmp_path / "elsewhere")
    assert kept.get(DIGEST) is None
    entry(directory).unlink()
    os.mkfifo(entry(directory), 0o600)
    assert kept.get(DIGEST) is None
    assert len(said) == 2
    kept.put(DIGEST, IMAGE, ())
    assert kept.get(DIGEST) == IMAGE


def test_an_entry_is_not_used_once_the_compilers_library_is_another_one(
    kept: ProgramCache, said: Lines, tmp_path: Path
) -> None:
    library = tmp_path / "libLLVM.so.1"
    library.write_bytes(b"14")
    kept.put(DIGEST, IMAGE, (FileIdentity.of(library),))
    assert kept.get(DIGEST) == IMAGE
    library.write_bytes(b"14.1")
    assert kept.get(DIGEST) is None
    assert f"it was made by another compiler ({library} changed)" in said[0]


def test_the_entries_used_last_are_kept(kept: ProgramCache, directory: Path) -> None:
    digests = [f"{number:064}" for number in range(KEPT)]
    for age, digest in enumerate(digests):
        kept.put(digest, IMAGE, ())
        os.utime(entry(directory, digest), (1000 + age, 1000 + age))
    assert kept.get(digests[0]) == IMAGE
    kept.put(DIGEST, IMAGE, ())
    left = {path.stem for path in directory.iterdir()}
    assert left == {DIGEST, *digests} - {digests[1]}


def test_files_of_killed_loaders_go_and_those_of_running_ones_stay(kept: ProgramCache, directory: Path) -> None:
    for name in ("old.new", "young.new"):
        (directory / name).write_text("")
    os.utime(directory / "old.new", (1000, 1000))
    kept.put(DIGEST, IMAGE, ())
    assert {path.name for path in directory.iterdir()} == {"young.new", f"{DIGEST}.json"}


def test_a_full_disk_stops_nothing_and_leaves_no_file(
    kept: ProgramCache, directory: Path, said: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    kept.put(DIGEST, IMAGE, ())
    assert said == ["warning: the compiled programs are not kept: No space left on device"]
    assert list(directory.iterdir()) == []


def test_loaders_at_the_same_time_see_whole_entries_or_none(
    directory: Path, said: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "KEPT", 2)  # so that they remove each other's entries all the time
    found: list[UnitImage | None] = []

    def work(seed: int) -> None:
        with opened(directory, said) as kept:
            assert kept is not None
            for number in range(25):
                digest = f"{(seed + number) % 5:064}"
                found.append(kept.get(digest))
                kept.put(digest, IMAGE, ())

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 100
    assert set(map(repr, found)) <= {repr(None), repr(IMAGE)}
    assert said == []
    assert len(list(directory.iterdir())) <= 5
