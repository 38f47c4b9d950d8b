"""From compiled units, fresh or kept from before, to pinned maps and programs.

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
    LoadFlag,
    Program,
    ProgramType,
    VerifierError,
)
from sluicegate_agent.loader import cache, sources, toolchain
from sluicegate_agent.loader.compiler import check_headers, compile_unit
from sluicegate_agent.loader.errors import LoaderError
from sluicegate_agent.loader.image import UnitImage
from sluicegate_agent.loader.manifest import Manifest, MapLayout, ProgramInfo, short
from sluicegate_agent.loader.request import Hook, LoadRequest, Unit
from sluicegate_agent.loader.unit_maps import PROGRAM_ARRAY_PREFIX, install_maps

TEMPORARY = "-new"
"""Suffix of a set that is being built. The BPF file system takes no dots in names."""

_VERIFIER_LOG_BYTES = 1 << 24
_PR_SET_PDEATHSIG = 1

_TYPES = {Hook.XDP: ProgramType.XDP, Hook.TC: ProgramType.SCHED_CLS}


@dataclass(frozen=True, slots=True)
class _Work:
    """A unit to load; ``image`` is None when it must be compiled."""

    unit: Unit
    text: str
    image: UnitImage | None


@dataclass(slots=True)
class _Build:
    """A set, or one unit of it, in the making. ``compiled`` is what had to be compiled for it, and with what.

    Program arrays empty themselves when their last user goes: they are pinned with the set.
    """

    request: LoadRequest
    directory: Path
    progress: Callable[[str], None]
    maps: dict[str, MapLayout] = field(default_factory=dict)
    programs: dict[str, ProgramInfo] = field(default_factory=dict)
    arrays: dict[str, Path] = field(default_factory=dict)
    compiled: tuple[UnitImage, tuple[toolchain.FileIdentity, ...]] | None = None


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
    try:
        for unit, part in zip(request.units, _install_kept(build), strict=True):
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


def _install_kept(build: _Build) -> list[_Build]:
    """All units; what was compiled before is taken from the cache, and what is compiled now is kept there."""
    request = build.request
    texts = [sources.join(request.sources, unit.file) for unit in request.units]
    with cache.opened(request.cache, build.progress) as kept:
        if kept is None:
            return _install_units(build, [_Work(*each, None) for each in zip(request.units, texts, strict=True)])
        digests = [
            toolchain.digest_of(unit.file, text, request.defines)
            for unit, text in zip(request.units, texts, strict=True)
        ]
        images = map(kept.get, digests)
        parts = _install_units(build, [_Work(*each) for each in zip(request.units, texts, images, strict=True)])
        for digest, part in zip(digests, parts, strict=True):
            if part.compiled is not None:
                kept.put(digest, *part.compiled)
        return parts


def _install_units(build: _Build, works: list[_Work]) -> list[_Build]:
    """Each unit in a process of its own where there are CPUs for them: a compiler is busy for seconds."""
    if missing := [work.unit.file for work in works if work.image is None]:
        build.progress(f"compiling {' and '.join(missing)}")
        check_headers()
    install_unit = partial(_install_unit, request=build.request, directory=build.directory, progress=build.progress)
    processes = min(len(works), len(os.sched_getaffinity(0)))
    if processes < 2:
        return [install_unit(work) for work in works]
    # Forked, for nothing has been started yet that a fork could cut in two.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("fork"), end_with_parent) as pool:
        try:
            return list(pool.map(install_unit, works))
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


def _install_unit(work: _Work, request: LoadRequest, directory: Path, progress: Callable[[str], None]) -> _Build:
    build = _Build(request, directory, progress)
    unit, image = work.unit, work.image
    if image is None:
        started = time.monotonic()
        image = compile_unit(work.text, request.defines)
        build.compiled = image, toolchain.libraries()
        build.progress(f"{unit.file}: compiled in {time.monotonic() - started:.2f} s")
    else:
        build.progress(f"{unit.file}: taken from the cache")
    _check_functions(unit, image)
    maps = install_maps(image, sources.inner_templates(work.text), unit.file, request.pins / "maps", directory)
    build.maps, build.arrays = maps.layouts, maps.arrays
    for name in unit.functions:
        instructions = image.functions[name].linked(maps.descriptors)
        with _load(unit.hook, name, instructions, image.license_name, build) as program:
            if name in unit.tails:
                if maps.tails is None:
                    raise LoaderError(f"{unit.file} has tail calls but no map {PROGRAM_ARRAY_PREFIX}...")
                maps.tails.update(struct.pack("<I", unit.tails[name]), struct.pack("<I", program.fd))
    return build


def _check_functions(unit: Unit, image: UnitImage) -> None:
    if missing := sorted(set(unit.functions) - set(image.functions)):
        raise LoaderError(f"{unit.file} has no function {', '.join(missing)}")
    if unknown := sorted(set(image.functions) - set(unit.functions)):
        raise LoaderError(
            f"{unit.file}: nothing attaches or calls {', '.join(unknown)}", "make helpers static inline, or list them"
        )


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
