"""BPF maps: rows as bytes, one at a time or in batches."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Self

from sluicegate_agent.kernel.native import (
    Descriptor,
    KernelError,
    call,
    open_pinned,
    possible_cpus,
    read_info,
    try_call,
)


class MapType(IntEnum):
    """``enum bpf_map_type``, as far as it is used here."""

    HASH = 1
    ARRAY = 2
    PROG_ARRAY = 3
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    LRU_HASH = 9
    LRU_PERCPU_HASH = 10
    LPM_TRIE = 11
    ARRAY_OF_MAPS = 12
    HASH_OF_MAPS = 13
    RINGBUF = 27


_PER_CPU = frozenset({MapType.PERCPU_HASH, MapType.PERCPU_ARRAY, MapType.LRU_PERCPU_HASH})

UPDATE_ANY = 0
UPDATE_NEW = 1
"""BPF_NOEXIST: fail with EEXIST when the key is there."""
UPDATE_EXISTING = 2
"""BPF_EXIST: fail with ENOENT when the key is not there."""


@dataclass(frozen=True, slots=True)
class MapInfo:
    """What the kernel says of a map; sizes in bytes, ``flags`` as in ``BPF_F_*``."""

    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: str


class _RawInfo(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("key_size", ctypes.c_uint32),
        ("value_size", ctypes.c_uint32),
        ("max_entries", ctypes.c_uint32),
        ("map_flags", ctypes.c_uint32),
        ("name", ctypes.c_char * 16),
    )


class _CreateOptions(ctypes.Structure):
    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("btf_fd", ctypes.c_uint32),
        ("btf_key_type_id", ctypes.c_uint32),
        ("btf_value_type_id", ctypes.c_uint32),
        ("btf_vmlinux_value_type_id", ctypes.c_uint32),
        ("inner_map_fd", ctypes.c_uint32),
        ("map_flags", ctypes.c_uint32),
    )


class BpfMap(Descriptor):
    """An open map. Keys and values are bytes in the map's own layout; per-CPU values follow each other, padded to 8."""

    kind = "map"

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        raw = read_info(fd, self.kind, _RawInfo)
        self.info = MapInfo(
            raw.type, raw.id, raw.key_size, raw.value_size, raw.max_entries, raw.map_flags, raw.name.decode()
        )
        padded = (raw.value_size + 7) // 8 * 8
        self.stored_size = padded * possible_cpus() if raw.type in _PER_CPU else raw.value_size
        """Bytes of one value as user space reads and writes it."""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a pinned map; KernelError with ENOENT when nothing is pinned there."""
        return cls(open_pinned(path, cls.kind))

    @classmethod
    def from_id(cls, map_id: int) -> Self:
        """Open a map by the id that lookups in a map of maps return; ENOENT when it is gone."""
        return cls(call("bpf_map_get_fd_by_id", f"open map {map_id}", ctypes.c_uint32(map_id)))

    @classmethod
    def create(
        cls,
        map_type: MapType,
        name: str,
        key_size: int,
        value_size: int,
        max_entries: int,
        *,
        flags: int = 0,
        inner_fd: int | None = None,
    ) -> Self:
        """Make a map; ``inner_fd`` is the template of a map of maps. The name is cut to the kernel's 15 bytes."""
        options = _CreateOptions(sz=ctypes.sizeof(_CreateOptions), inner_map_fd=inner_fd or 0, map_flags=flags)
        return cls(
            call(
                "bpf_map_create",
                f"create the map {name} ({max_entries} entries of {key_size} + {value_size} bytes)",
                int(map_type),
                name.encode()[:15],
                *map(ctypes.c_uint32, (key_size, value_size, max_entries)),
                ctypes.byref(options),
            )
        )

    def lookup(self, key: bytes) -> bytes | None:
        """The value of ``key``, None when there is none. In a map of maps the value is the inner map's id."""
        value = ctypes.create_string_buffer(self.stored_size)
        _, number = try_call("bpf_map_lookup_elem", self._fd, self._key(key), value)
        if number == errno.ENOENT:
            return None
        self._check(number, "read", key)
        return value.raw

    def update(self, key: bytes, value: bytes, flags: int = UPDATE_ANY) -> None:
        """Write one row at once. The value of a map of maps and of a program array is a descriptor (u32)."""
        if len(value) != self.stored_size:
            raise ValueError(f"{self.info.name}: a value has {self.stored_size} bytes, not {len(value)}")
        _, number = try_call("bpf_map_update_elem", self._fd, self._key(key), value, ctypes.c_uint64(flags))
        self._check(number, "write", key)

    def delete(self, key: bytes) -> bool:
        """Remove one row; False when it was not there."""
        _, number = try_call("bpf_map_delete_elem", self._fd, self._key(key))
        if number == errno.ENOENT:
            return False
        self._check(number, "delete from", key)
        return True

    def keys(self) -> Iterator[bytes]:
        """All keys, one call each. When the present key of a hash is deleted meanwhile, the walk starts over."""
        following = ctypes.create_string_buffer(self.info.key_size)
        present: bytes | None = None
        while True:
            _, number = try_call("bpf_map_get_next_key", self._fd, present, following)
            if number == errno.ENOENT:
                return
            self._check(number, "walk", present or b"")
            present = following.raw
            yield present

    def items_batch(self, chunk: int = 4096) -> Iterator[tuple[bytes, bytes, int]]:
        """All rows as (keys, values, count), each a run of ``count`` rows.

        A row that is written while the walk runs may be missing or come twice, as the kernel has it.
        """
        cursor: ctypes.Array[ctypes.c_char] | None = None
        while True:
            following = ctypes.create_string_buffer(max(self.info.key_size, 8))
            keys = ctypes.create_string_buffer(self.info.key_size * chunk)
            values = ctypes.create_string_buffer(self.stored_size * chunk)
            count = ctypes.c_uint32(chunk)
            _, number = try_call(
                "bpf_map_lookup_batch", self._fd, cursor, following, keys, values, ctypes.byref(count), None
            )
            if number == errno.ENOSPC:  # one bucket of the hash holds more rows than the buffer
                chunk *= 2
                continue
            if number not in {0, errno.ENOENT}:
                raise KernelError(f"read the map {self.info.name} in batches", number)
            if count.value:
                yield (
                    ctypes.string_at(keys, self.info.key_size * count.value),
                    ctypes.string_at(values, self.stored_size * count.value),
                    count.value,
                )
            if number == errno.ENOENT:
                return
            cursor = following

    def first_rows(self, count: int) -> bytes:
        """The values of indices 0 to ``count`` - 1 of an array, in one call."""
        values = ctypes.create_string_buffer(self.stored_size * count)
        keys = ctypes.create_string_buffer(self.info.key_size * count)
        cursor = ctypes.create_string_buffer(max(self.info.key_size, 8))
        read = ctypes.c_uint32(count)
        _, number = try_call("bpf_map_lookup_batch", self._fd, None, cursor, keys, values, ctypes.byref(read), None)
        if number not in {0, errno.ENOENT}:  # ENOENT: that was all
            raise KernelError(f"read the map {self.info.name} in one batch", number)
        if read.value != count:
            raise ValueError(f"{self.info.name} has {read.value} rows, not {count}")
        return values.raw

    def update_batch(self, keys: bytes, values: bytes, count: int) -> None:
        """Write ``count`` rows. A failure leaves the rows before it written."""
        if len(keys) != count * self.info.key_size or len(values) != count * self.stored_size:
            raise ValueError(f"{self.info.name}: {len(keys)} + {len(values)} bytes are not {count} rows")
        done = ctypes.c_uint32(count)
        if count:
            operation = f"write {count} rows to the map {self.info.name}"
            call("bpf_map_update_batch", operation, self._fd, keys, values, ctypes.byref(done), None)

    def _key(self, key: bytes) -> bytes:
        if len(key) != self.info.key_size:
            raise ValueError(f"{self.info.name}: a key has {self.info.key_size} bytes, not {len(key)}")
        return key

    def _check(self, number: int, verb: str, key: bytes) -> None:
        if number:
            raise KernelError(f"{verb} the map {self.info.name} at {key.hex()}", number)
