"""From C in bcc's dialect to an image of instructions and maps. Nothing else in the agent imports bcc."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import IO, Self

from sluicegate_agent.kernel.libbpf import BpfMap
from sluicegate_agent.loader import layout
from sluicegate_agent.loader.errors import LoaderError
from sluicegate_agent.loader.image import FunctionImage, MapImage, UnitImage
from sluicegate_agent.loader.layout import Layout

# Headers and quotes are summed up as words whatever their type: the compiler must not take them for different memory.
_LANGUAGE = ("-fno-strict-aliasing",)
_WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-Wno-sign-compare", "-Wno-macro-redefined")
FLAGS = (*_LANGUAGE, *_WARNINGS)
"""What every file is compiled with."""

_NOISE = re.compile(r"modprobe|^In file included from|kheaders")
MODULES = Path("/lib/modules")
ARCHIVE = Path("/sys/kernel/kheaders.tar.xz")  # CONFIG_IKHEADERS
"""Where bcc looks for the kernel's headers."""


@dataclass(frozen=True, slots=True)
class CompiledMap:
    """A map as declared; ``fd`` is bcc's own, by which the instructions name it."""

    name: str
    fd: int
    key: Layout
    value: Layout


def compile_unit(text: str, defines: tuple[str, ...]) -> UnitImage:
    """Compile a joined text. Raises LoaderError."""
    with CompiledUnit(text, defines) as compiled:
        maps = compiled.maps()
        names = {row.fd: row.name for row in maps}
        functions = {name: FunctionImage.unlinked(code, names) for name, code in compiled.functions().items()}
        return UnitImage(compiled.license_name, tuple(_map_image(row) for row in maps), functions)


def _map_image(row: CompiledMap) -> MapImage:
    with BpfMap(os.dup(row.fd)) as opened:
        info = opened.info
    sizes = (info.key_size, info.value_size, info.max_entries)
    return MapImage(row.name, info.type, row.key, row.value, *sizes, info.flags)


class CompiledUnit:
    """A compiled file: its maps, made by bcc and gone with this object, and the instructions of its functions."""

    def __init__(self, text: str, defines: tuple[str, ...]) -> None:
        self._lib = _bcc().lib
        flags = [flag.encode() for flag in (*FLAGS, *defines)]
        array = (ctypes.c_char_p * len(flags))(*flags)
        with _captured_stderr() as said:
            self._module = self._lib.bpf_module_create_c_from_string(text.encode(), 0, array, len(flags), True, None)
            said.seek(0)
            messages = said.read()
        if not self._module:
            raise _compile_error(messages)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lib.bpf_module_destroy(self._module)

    @property
    def license_name(self) -> str:
        """What the file declares to the kernel, GPL unless it says otherwise."""
        return str(self._lib.bpf_module_license(self._module).decode())

    def maps(self) -> tuple[CompiledMap, ...]:
        """All maps of the file."""
        lib = self._lib
        found = []
        for index in range(lib.bpf_num_tables(self._module)):
            raw = lib.bpf_table_name(self._module, index)
            name = raw.decode()
            key = lib.bpf_table_key_desc(self._module, raw).decode()
            value = lib.bpf_table_leaf_desc(self._module, raw).decode()
            found.append(
                CompiledMap(
                    name,
                    int(lib.bpf_table_fd(self._module, raw)),
                    layout.from_description(key, f"the key of {name}"),
                    layout.from_description(value, f"the value of {name}"),
                )
            )
        return tuple(found)

    def functions(self) -> dict[str, bytes]:
        """Instructions by function name. Those that load a map's address hold bcc's descriptor of it."""
        lib = self._lib
        found = {}
        for index in range(lib.bpf_num_functions(self._module)):
            raw = lib.bpf_function_name(self._module, index)
            start = lib.bpf_function_start(self._module, raw)
            length = lib.bpf_function_size(self._module, raw)
            found[raw.decode()] = ctypes.string_at(start, length)
        return found


def _bcc() -> ModuleType:
    try:
        from bcc import libbcc  # noqa: PLC0415 - bcc that is missing must become a message, not a traceback
    except ImportError as error:
        raise LoaderError(
            f"bcc cannot be imported ({error})",
            "apt-get install python3-bpfcc; the virtual environment must be /usr/bin/python3's and see system packages",
        ) from error
    libbcc.lib.bpf_num_tables.restype = ctypes.c_size_t
    libbcc.lib.bpf_num_tables.argtypes = [ctypes.c_void_p]
    libbcc.lib.bpf_table_name.restype = ctypes.c_char_p
    libbcc.lib.bpf_table_name.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    module: ModuleType = libbcc
    return module


def check_headers(modules: Path = MODULES, archive: Path = ARCHIVE) -> None:
    """Raise LoaderError when the kernel's headers are nowhere where bcc looks for them."""
    place = modules / platform.release()
    build, source = place / "build" / "include", place / "source" / "include"
    # Debian splits the tree in two; others have it whole under build; some kernels carry it inside themselves.
    if (build / "linux").is_dir() or (build.is_dir() and source.is_dir()) or archive.exists():
        return
    raise LoaderError(
        f"there are no kernel headers in {place}/build and {place}/source",
        f"run make setup, or apt-get install linux-headers-amd64 and link {place}/build to "
        f"/usr/src/linux-headers-*-amd64 and {place}/source to /usr/src/linux-headers-*-common",
    )


@contextmanager
def _captured_stderr() -> Iterator[IO[str]]:
    """What clang and the tools that bcc starts write to descriptor 2."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        before = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(before, 2)
            os.close(before)


def _compile_error(messages: str) -> LoaderError:
    lines = [line for line in messages.splitlines() if line.strip() and not _NOISE.search(line)]
    if refused := [line for line in lines if "could not open bpf map" in line]:
        return LoaderError(
            "the kernel refused a map: " + "; ".join(refused),
            "run as root, or with CAP_BPF and CAP_NET_ADMIN; make the maps smaller if memory is short",
        )
    return LoaderError("\n".join(["the programs do not compile:", *lines]))
