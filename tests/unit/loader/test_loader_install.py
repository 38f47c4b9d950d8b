"""What is missing before programs can be compiled, and what is done when the kernel refuses a program."""

from __future__ import annotations

import errno
import platform
import sys
from pathlib import Path
from typing import Any

import pytest

from sluicegate_agent.kernel.libbpf import LoadFlag, Program, VerifierError
from sluicegate_agent.loader import install
from sluicegate_agent.loader.compiler import CompiledUnit, check_headers
from sluicegate_agent.loader.errors import LoaderError
from sluicegate_agent.loader.request import Hook


def test_a_kernel_without_multi_buffer_xdp_gets_the_program_without_that_flag(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[LoadFlag] = []

    def old_kernel(*arguments: Any, flags: LoadFlag = LoadFlag.NONE, **options: Any) -> str:
        asked.append(flags)
        if flags:
            raise VerifierError("load", errno.EINVAL, "")
        return "loaded"

    said: list[str] = []
    monkeypatch.setattr(Program, "load", old_kernel)
    assert install._load_for(Hook.XDP, "xdp_main", b"", "GPL", said.append) == "loaded"
    assert asked == [LoadFlag.XDP_HAS_FRAGS, LoadFlag.NONE]
    assert "no multi-buffer XDP" in said[0]


@pytest.mark.parametrize(
    ("number", "log", "expected"),
    [
        (errno.EACCES, "\n".join(f"line {number}" for number in range(100)), r"rejects xdp_main.*log:\nline 70\n"),
        (errno.EPERM, "", "Operation not permitted.*run as root"),
    ],
)
def test_a_refused_program_is_reported_with_the_reason_and_tried_once(
    monkeypatch: pytest.MonkeyPatch, number: int, log: str, expected: str
) -> None:
    attempts = 0

    def refuse(*arguments: Any, **options: Any) -> Program:
        nonlocal attempts
        attempts += 1
        raise VerifierError("load the program xdp_main", number, log)

    monkeypatch.setattr(Program, "load", refuse)
    with pytest.raises(LoaderError, match=f"(?s){expected}"):
        install._load_for(Hook.XDP, "xdp_main", b"", "GPL", lambda _: None)
    assert attempts == 1


def test_missing_kernel_headers_are_named_with_the_way_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(LoaderError, match=r"no kernel headers in .*build and .*source; run make setup"):
        check_headers(tmp_path, tmp_path / "archive")


@pytest.mark.parametrize(
    "directories",
    [("build/include/linux",), ("build/include", "source/include")],
    ids=["one tree", "Debian's two trees"],
)
def test_kernel_headers_are_found_in_one_tree_or_two(tmp_path: Path, directories: tuple[str, ...]) -> None:
    for directory in directories:
        (tmp_path / platform.release() / directory).mkdir(parents=True)
    check_headers(tmp_path, tmp_path / "archive")


def test_half_of_debians_kernel_headers_is_not_enough(tmp_path: Path) -> None:
    (tmp_path / platform.release() / "build" / "include").mkdir(parents=True)
    with pytest.raises(LoaderError, match="no kernel headers"):
        check_headers(tmp_path, tmp_path / "archive")


def test_missing_bcc_is_named_with_the_package_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bcc", None)
    with pytest.raises(LoaderError, match=r"bcc cannot be imported .*apt-get install python3-bpfcc"):
        CompiledUnit("", ())
