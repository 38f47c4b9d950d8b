"""Rows of a map whose layout changed, taken over into the map that replaces it, member by member.

The old programs go on writing the old map until the links move. So rows are copied twice: all of them before, so that
the agent finds the ids that the flows refer to, and what was added meanwhile afterwards.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from sluicegate_agent.kernel.libbpf import UPDATE_NEW, BpfMap, KernelError, MapType, possible_cpus
from sluicegate_agent.loader.errors import LoaderError
from sluicegate_agent.loader.layout import Layout
from sluicegate_agent.loader.manifest import Manifest, MapLayout

_log = logging.getLogger(__name__)

_PER_CPU = frozenset({MapType.PERCPU_ARRAY, MapType.PERCPU_HASH, MapType.LRU_PERCPU_HASH})
_OF_MAPS = frozenset({MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS})  # the agent fills them anew
_PADDING = "__pad"

_Rows: TypeAlias = "np.ndarray[tuple[int, ...], np.dtype[np.void]]"


def with_replaced(manifest: Manifest, before: Manifest) -> Manifest:
    """The manifest, which also names the maps of the set ``before`` that it replaces by others.

    Raises LoaderError when rows of ``before`` hold what this version does not know although it is no older one: it
    was left by a newer version, and its flows would not outlive the loss.
    """
    changed = {
        name: (old, manifest.maps.get(name))
        for name, old in before.maps.items()
        if old.path is not None and old.type not in _OF_MAPS and old.path != _path_in(manifest, name)
    }
    lost = {name: members for name, (old, new) in changed.items() if (members := _lost(old, new))}
    words = "; ".join(f"{name}: {members}" for name, members in lost.items())
    if lost and before.format >= manifest.format:
        raise LoaderError(
            f"the pinned maps hold what this version does not know ({words}): they were left by a newer version",
            "run that version or a newer one; or give up the flows and remove all with run --teardown",
        )
    if lost:
        _log.warning("this version has no use for %s", words)
    replaced = {name: old for name, (old, new) in changed.items() if new is not None and _can_carry(old, new)}
    return replace(manifest, replaced=replaced)


def carry_all(manifest: Manifest) -> None:
    """Copy every row of the replaced maps that are still pinned. Raises KernelError."""
    for name, old, new in _pairs(manifest):
        try:
            rows = _carry(old, new)
        except KernelError as error:
            if error.errno != errno.E2BIG:  # the rows before the one that did not fit are written
                raise
            _log.warning("the map %s is smaller than before; some of its rows were not taken over", name)
        else:
            _log.info("took over %d rows of the map %s, whose layout changed", rows, name)


def carry_rest(manifest: Manifest) -> None:
    """Copy rows that the replaced maps got since :func:`carry_all`; what the new map has stays.

    Arrays are left as they are: all their rows exist from the start. Raises KernelError.
    """
    for _, old, new in _pairs(manifest):
        with BpfMap.open(_path(old)) as source, BpfMap.open(_path(new)) as target:
            size = source.info.key_size
            for keys, values, count in source.items_batch():
                converted = _convert(values, count, old, new)
                for row in range(count):
                    value = converted[row * target.stored_size : (row + 1) * target.stored_size]
                    _add(target, keys[row * size : (row + 1) * size], value)


def _pairs(manifest: Manifest) -> Iterator[tuple[str, MapLayout, MapLayout]]:
    for name, old in manifest.replaced.items():
        if _path(old).exists():
            yield name, old, manifest.maps[name]


def _path_in(manifest: Manifest, name: str) -> Path | None:
    return manifest.maps[name].path if name in manifest.maps else None


def _can_carry(old: MapLayout, new: MapLayout) -> bool:
    return old.type == new.type and old.key == new.key and new.path is not None


def _lost(old: MapLayout, new: MapLayout | None) -> str:
    """What of the old rows has no place in the new ones, in words; empty when nothing."""
    if new is None:
        return "the whole map"
    if not _can_carry(old, new):
        return "rows under another key" if old.type == new.type else "a map of another type"
    return ", ".join(_lost_members(old.value, new.value, ""))


def _lost_members(old: Layout, new: Layout, place: str) -> Iterator[str]:
    if isinstance(old, str) or isinstance(new, str):
        if isinstance(old, str) is not isinstance(new, str):
            yield place or "the value"
        return
    after = {member.name: member for member in new}
    for member in old:
        if member.name.startswith(_PADDING):
            continue
        path = f"{place}.{member.name}".lstrip(".")
        same = after.get(member.name)
        if same is None or same.shape != member.shape:
            yield path
        else:
            yield from _lost_members(member.layout, same.layout, path)


def _path(row: MapLayout) -> Path:
    assert row.path is not None  # noqa: S101 - see _can_carry
    return row.path


def _carry(old: MapLayout, new: MapLayout) -> int:
    total = 0
    with BpfMap.open(_path(old)) as source, BpfMap.open(_path(new)) as target:
        for keys, values, count in source.items_batch():
            target.update_batch(keys, _convert(values, count, old, new), count)
            total += count
    return total


def _add(target: BpfMap, key: bytes, value: bytes) -> None:
    try:
        target.update(key, value, UPDATE_NEW)
    except KernelError as error:
        if error.errno not in {errno.EEXIST, errno.E2BIG}:
            raise


def _convert(values: bytes, count: int, old: MapLayout, new: MapLayout) -> bytes:
    """Values as the new map takes them; members that only one of the layouts has are left out, or zero."""
    cpus = possible_cpus() if old.type in _PER_CPU else 1
    source = np.frombuffer(values, _stored(old)).reshape(count * cpus)
    target = np.zeros(count * cpus, _stored(new))
    _copy_members(old.value, source["row"], new.value, target["row"])
    return target.tobytes()


def _stored(row: MapLayout) -> np.dtype[np.void]:
    """A value as the map keeps it: per-CPU ones are padded to 8 bytes."""
    padding = -row.value_dtype.itemsize % 8 if row.type in _PER_CPU else 0
    return np.dtype([("row", row.value_dtype), ("padding", "u1", (padding,))])


def _copy_members(old: Layout, source: _Rows, new: Layout, target: _Rows) -> None:
    if isinstance(old, str) or isinstance(new, str):
        if isinstance(old, str) and isinstance(new, str):
            target["value"] = source["value"]
        return
    before = {member.name: member for member in old}
    for member in new:
        same = before.get(member.name)
        if same is None or same.shape != member.shape or member.name.startswith(_PADDING):
            continue
        if isinstance(member.layout, str) and isinstance(same.layout, str):
            target[member.name] = source[member.name]
        elif not isinstance(member.layout, str) and not isinstance(same.layout, str):
            _copy_members(same.layout, source[member.name], member.layout, target[member.name])
