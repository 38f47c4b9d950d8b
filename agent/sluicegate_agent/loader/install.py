"""From compiled units to pinned maps and programs.

Every step leaves the pins usable: a map is pinned whole or not at all, under a name that carries the digest of its
layout; a set of programs is built under a temporary name and renamed when complete. A loader killed half-way leaves
maps that the next one takes up and a temporary directory that it removes.
"""

from __future__ import annotations

import ctypes
import errno
import multiprocessing
import os
import signal
import struct
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from sluicegate_agent.kernel.bpffs import remove_tree
from sluicegate_agent.kernel.libbpf import (
    INSTRUCTION_BYTES,
    AttachType,
    BpfMap,
    KernelError,
    LoadFlag,
    MapType,
    Program,
    ProgramType,
    VerifierError,
)
from sluicegate_agent.loader import layout, sources
from sluicegate_agent.loader.compiler import CompiledMap, CompiledUnit
from sluicegate_agent.loader.errors import LoaderError
from sluicegate_agent.loader.manifest import Manifest, MapLayout, ProgramInfo, layout_digest, short
from sluicegate_agent.loader.request import Hook, LoadRequest, Unit

TEMPORARY = "-new"
"""Suffix of a set that is being built. The BPF file system takes no dots in names."""

PROGRAM_ARRAY_PREFIX = "tails_"

_LOAD_IMMEDIATE_64 = 0x18
_SOURCE_MAP_FD = 1  # BPF_PSEUDO_MAP_FD in the high half of the registers' byte
_VERIFIER_LOG_BYTES = 1 << 24
_PR_SET_PDEATHSIG = 1

_TYPES = {Hook.XDP: ProgramType.XDP, Hook.TC: ProgramType.SCHED_CLS}


@dataclass(slots=True)
class _Build:
    """A set, or one unit of it, in the making.

    Program arrays empty themselves when their last user goes: they are pinned with the set.
    """

    request: LoadRequest
    directory: Path
    progress: Callable[[str], None]
    maps: dict[str, MapLayout] = field(default_factory=dict)
    programs: dict[str, ProgramInfo] = field(default_factory=dict)
    arrays: dict[str, Path] = field(default_factory=dict)


def install(request: LoadRequest, progress: Callable[[str], None]) -> Manifest:
    """Compile, load and pin the whole set; ``progress``, a module's function, gets one line per program.

    Raises LoaderError and KernelError.
    """
    programs = request.pins / "programs"
    (request.pins / "maps").mkdir(parents=True, exist_ok=True)
    programs.mkdir(exist_ok=True)
    for leftover in programs.glob(f"*{TEMPORARY}"):
        remove_tree(leftover)
    digest = sources.set_digest(request)
    final = _free_name(programs, short(digest))
    build = _Build(request, final.with_name(final.name + TEMPORARY), progress)
    build.directory.mkdir()
    progress(f"compiling {' and '.join(unit.file for unit in request.units)}")
    try:
        for unit, part in zip(request.units, _install_units(build), strict=True):
            _merge(build, part, unit)
        build.directory.rename(final)
    except BaseException:
        remove_tree(build.directory)
        raise
    return Manifest(
        set_digest=digest,
        source_digest=sources.source_digest(request),
        features=request.features,
        sizes=request.sizes,
        maps=build.maps,
        programs={name: replace(row, path=final / row.path.name) for name, row in build.programs.items()},
        program_arrays={name: final / path.name for name, path in build.arrays.items()},
        reasons=sources.reasons(request.sources),
    )


def _install_units(build: _Build) -> list[_Build]:
    """All units, each in a process of its own where there are CPUs for them: a compiler is busy for seconds."""
    units = build.request.units
    install_unit = partial(_install_unit, request=build.request, directory=build.directory, progress=build.progress)
    processes = min(len(units), len(os.sched_getaffinity(0)))
    if processes < 2:
        return [install_unit(unit) for unit in units]
    # Forked, for nothing has been started yet that a fork could cut in two.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("fork"), end_with_parent) as pool:
        try:
            return list(pool.map(install_unit, units))
        except BrokenProcessPool as error:
            raise LoaderError(
                "a compiler was killed, perhaps for want of memory", "it takes 170 MB per CPU, on two CPUs at most"
            ) from error


def end_with_parent() -> None:
    """Be killed when the parent dies: an agent that is gone must not be followed by a loader that still pins."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _merge(build: _Build, part: _Build, unit: Unit) -> None:
    for name, row in part.maps.items():
        if build.maps.setdefault(name, row) != row:
            raise LoaderError(f"the map {name} is declared in two ways, one of them in {unit.file}")
    build.programs.update(part.programs)
    build.arrays.update(part.arrays)


def _free_name(programs: Path, name: str) -> Path:
    """A directory that is not there yet.

    The same set may be attached already: unpinning its program array would empty it under the running programs.
    """
    taken = {path.name for path in programs.iterdir()}
    names = (name, *(f"{name}-{number}" for number in range(2, len(taken) + 3)))
    return programs / next(candidate for candidate in names if candidate not in taken)


def _install_unit(unit: Unit, request: LoadRequest, directory: Path, progress: Callable[[str], None]) -> _Build:
    build = _Build(request, directory, progress)
    text = sources.join(request.sources, unit.file)
    started = time.monotonic()
    with CompiledUnit(text, request.defines) as compiled:
        build.progress(f"{unit.file}: compiled in {time.monotonic() - started:.2f} s")
        functions = compiled.functions()
        _check_functions(unit, functions)
        open_maps, array = _install_maps(compiled.maps(), sources.inner_templates(text), unit, build)
        descriptors = {bcc_fd: opened.fd for bcc_fd, opened in open_maps.items()}
        for name in unit.functions:
            instructions = relocate(functions[name], descriptors)
            with _load(unit.hook, name, instructions, compiled.license_name, build) as program:
                if name in unit.tails:
                    if array is None:
                        raise LoaderError(f"{unit.file} has tail calls but no map {PROGRAM_ARRAY_PREFIX}...")
                    array.update(struct.pack("<I", unit.tails[name]), struct.pack("<I", program.fd))
    return build


def _check_functions(unit: Unit, functions: dict[str, bytes]) -> None:
    if missing := sorted(set(unit.functions) - set(functions)):
        raise LoaderError(f"{unit.file} has no function {', '.join(missing)}")
    if unknown := sorted(set(functions) - set(unit.functions)):
        raise LoaderError(
            f"{unit.file}: nothing attaches or calls {', '.join(unknown)}", "make helpers static inline, or list them"
        )


def _install_maps(
    compiled: tuple[CompiledMap, ...], templates: dict[str, str], unit: Unit, build: _Build
) -> tuple[dict[int, BpfMap], BpfMap | None]:
    """The maps to use by bcc's descriptor, and the unit's program array."""
    layouts = {row.name: _layout_of(row, templates.get(row.name)) for row in compiled}
    opened: dict[int, BpfMap] = {}
    array: BpfMap | None = None
    for row in compiled:
        wanted = layouts[row.name]
        own = BpfMap(os.dup(row.fd))
        if row.name in templates.values():
            opened[row.fd] = own
        elif row.name.startswith(PROGRAM_ARRAY_PREFIX):
            if array is not None:
                raise LoaderError(f"{unit.file} has more than one map {PROGRAM_ARRAY_PREFIX}...")
            array = opened[row.fd] = own
            build.arrays[row.name] = build.directory / row.name
            own.pin(build.arrays[row.name])
            continue
        else:
            inner = layouts.get(templates.get(row.name, ""))
            path = build.request.pins / "maps" / f"{row.name}-{layout_digest(wanted, inner)}"
            wanted = replace(wanted, path=path)
            opened[row.fd] = _adopt_or_pin(own, path)
        build.maps[row.name] = wanted
    return opened, array


def _layout_of(row: CompiledMap, inner: str | None) -> MapLayout:
    with BpfMap(os.dup(row.fd)) as opened:
        info = opened.info
    for what, shape, real in (("key", row.key, info.key_size), ("value", row.value, info.value_size)):
        if info.type != MapType.ARRAY_OF_MAPS and layout.size(shape) != real:
            raise LoaderError(
                f"the {what} of {row.name} has {real} bytes, its members {layout.size(shape)}",
                "name the padding in types.h",
            )
    return MapLayout(None, info.type, row.key, row.value, info.max_entries, info.flags, inner)


def _adopt_or_pin(own: BpfMap, path: Path) -> BpfMap:
    try:
        own.pin(path)
    except KernelError as error:
        if error.errno != errno.EEXIST:
            raise
        return BpfMap.open(path)
    return own


def relocate(instructions: bytes, descriptors: dict[int, int]) -> bytes:
    """The instructions with every map's descriptor replaced. Raises LoaderError for a descriptor of no map."""
    patched = bytearray(instructions)
    skip = False
    for offset in range(0, len(patched), INSTRUCTION_BYTES):
        code, registers, _, immediate = struct.unpack_from("<BBhi", patched, offset)
        if skip:  # second half of a 16-byte instruction
            skip = False
            continue
        skip = code == _LOAD_IMMEDIATE_64
        if skip and registers >> 4 == _SOURCE_MAP_FD:
            if immediate not in descriptors:
                raise LoaderError(f"instruction {offset // INSTRUCTION_BYTES} refers to an unknown map")
            struct.pack_into("<i", patched, offset + 4, descriptors[immediate])
    return bytes(patched)


def _load(hook: Hook, name: str, instructions: bytes, license_name: str, build: _Build) -> Program:
    started = time.monotonic()
    program = _load_for(hook, name, instructions, license_name, build.progress)
    elapsed = (time.monotonic() - started) * 1000
    path = build.directory / name
    program.pin(path)
    info = program.info
    build.programs[name] = row = ProgramInfo(
        path=path,
        kind=hook,
        tag=info.tag,
        instructions=len(instructions) // INSTRUCTION_BYTES,
        xlated_bytes=info.xlated_len,
        jited_bytes=info.jited_len,
        verified_instructions=info.verified_insns,
        load_ms=round(elapsed, 1),
    )
    build.progress(f"{name}: {row}")
    return program


def _load_for(
    hook: Hook, name: str, instructions: bytes, license_name: str, progress: Callable[[str], None]
) -> Program:
    flags = LoadFlag.XDP_HAS_FRAGS if hook is Hook.XDP else LoadFlag.NONE
    load = partial(
        Program.load,
        _TYPES[hook],
        name,
        instructions,
        license_name=license_name,
        expected_attach_type=AttachType.XDP if hook is Hook.XDP else AttachType.NONE,
        log_bytes=_VERIFIER_LOG_BYTES,
    )
    try:
        return load(flags=flags)
    except VerifierError as error:
        if not flags or error.errno != errno.EINVAL or error.log:
            raise _rejection(name, error) from error
    # No verifier log: the kernel did not get as far as the program. Before Linux 5.18 it does not know the flag.
    progress(f"{name}: this kernel has no multi-buffer XDP; large frames stay with its drivers' limits")
    try:
        return load()
    except VerifierError as error:
        raise _rejection(name, error) from error


def _rejection(name: str, error: VerifierError) -> LoaderError:
    if not error.log:
        return LoaderError(str(error).removesuffix(f"; {error.hint}"), error.hint)
    return LoaderError(f"the verifier rejects {name}; the end of its log:\n{error.tail()}")
