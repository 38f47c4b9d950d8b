"""What makes a compiled file another one."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from sluicegate_agent.loader import toolchain
from sluicegate_agent.loader.toolchain import FileIdentity, digest_of, libraries

TEXT = '#line 1 "/a/xdp.c"\nint f;\n'
DEFINES = ("-DFLOWS=8",)


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    for name in ("headers-1", "headers-2"):
        (tmp_path / name / "include" / "generated").mkdir(parents=True)
        (tmp_path / name / "include" / "generated" / "autoconf.h").write_text("#define CONFIG_BPF 1\n")
    directory = tmp_path / "modules" / platform.release()
    directory.mkdir(parents=True)
    (directory / "build").symlink_to(tmp_path / "headers-1")
    return directory.parent


def test_the_place_of_the_sources_does_not_matter(modules: Path) -> None:
    moved = TEXT.replace("/a/", "/another/")
    assert digest_of("xdp.c", TEXT, DEFINES, modules=modules) == digest_of("xdp.c", moved, DEFINES, modules=modules)


@pytest.mark.parametrize(
    ("file", "text", "defines"),
    [("tc.c", TEXT, DEFINES), ("xdp.c", TEXT + "int g;\n", DEFINES), ("xdp.c", TEXT, ("-DFLOWS=9",))],
    ids=["file", "text", "defines"],
)
def test_another_input_is_another_file(modules: Path, file: str, text: str, defines: tuple[str, ...]) -> None:
    assert digest_of(file, text, defines, modules=modules) != digest_of("xdp.c", TEXT, DEFINES, modules=modules)


def test_other_headers_and_headers_installed_anew_make_another_file(modules: Path, tmp_path: Path) -> None:
    found = {digest_of("xdp.c", TEXT, DEFINES, modules=modules)}
    build = modules / platform.release() / "build"
    os.utime(build / "include" / "generated" / "autoconf.h", (1, 1))
    found.add(digest_of("xdp.c", TEXT, DEFINES, modules=modules))
    build.unlink()
    build.symlink_to(tmp_path / "headers-2")
    found.add(digest_of("xdp.c", TEXT, DEFINES, modules=modules))
    build.unlink()
    found.add(digest_of("xdp.c", TEXT, DEFINES, modules=modules))
    assert len(found) == 4


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        (platform, "release", lambda: "6.99.0"),
        (platform, "version", lambda: "#2 SMP"),
        (platform, "machine", lambda: "riscv64"),
        (toolchain, "FORMAT", toolchain.FORMAT + 1),
        (toolchain, "FLAGS", ("-O1",)),
        (toolchain, "_bcc", lambda: [FileIdentity("/usr/lib/python3/dist-packages/bcc/version.py", 23, 1)]),
    ],
)
def test_another_kernel_compiler_or_loader_makes_another_file(
    monkeypatch: pytest.MonkeyPatch, where: object, name: str, value: object
) -> None:
    before = digest_of("xdp.c", TEXT, DEFINES)
    monkeypatch.setattr(where, name, value)
    assert digest_of("xdp.c", TEXT, DEFINES) != before


def test_headers_that_bcc_is_sent_to_by_a_variable_make_another_file(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest_of("xdp.c", TEXT, DEFINES)
    monkeypatch.setenv("BCC_KERNEL_SOURCE", "/usr/src/linux")
    assert digest_of("xdp.c", TEXT, DEFINES) != before


def test_a_package_in_front_of_bcc_is_another_bcc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bcc").mkdir()
    (tmp_path / "bcc" / "__init__.py").write_text("raise AssertionError('imported')\n")
    before = digest_of("xdp.c", TEXT, DEFINES)
    monkeypatch.syspath_prepend(tmp_path)
    assert digest_of("xdp.c", TEXT, DEFINES) != before


def test_a_file_is_the_same_until_it_is_replaced_or_gone(tmp_path: Path) -> None:
    library = tmp_path / "libbcc.so.0.26.0"
    library.write_bytes(b"1234")
    link = tmp_path / "libbcc.so.0"
    link.symlink_to(library)
    identity = FileIdentity.of(link)
    assert identity.path == str(library)
    assert identity.holds
    assert not replace_size(identity).holds
    library.unlink()
    assert not identity.holds


def replace_size(identity: FileIdentity) -> FileIdentity:
    return identity._replace(size=identity.size + 1)


def test_the_compilers_libraries_are_found_among_all_that_are_mapped(tmp_path: Path) -> None:
    for name in ("libbcc.so.0.26.0", "libLLVM-14.so.1", "libc.so.6"):
        (tmp_path / name).write_bytes(name.encode())
    names = ("libLLVM-14.so.1", "libc.so.6", "libbcc.so.0.26.0", "libbcc.so.0.26.0", "libclang.so.1 (deleted)")
    lines = [f"7f00-7f01 r-xp 00000000 fe:00 123    {tmp_path}/{name}" for name in names]
    maps = tmp_path / "maps"
    maps.write_text("\n".join(["7ffd-7ffe rw-p 00000000 00:00 0 [stack]", "7ffd-7ffe rw-p 00000000 00:00 0", *lines]))
    assert [Path(each.path).name for each in libraries(maps)] == ["libLLVM-14.so.1", "libbcc.so.0.26.0"]
