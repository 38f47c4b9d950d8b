"""Vectorscan through ctypes: compiling and scanning, for trying rules before the engine gets them.

The engine has its own binding in C; this one needs nothing built. Functions and constants are those of hs.h.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from ctypes import POINTER, byref, c_char_p, c_int, c_uint, c_ulonglong, c_void_p
from types import TracebackType
from typing import Self

from sluicegate_agent.dpi.rules.tables import NO_OFFSET, Pattern

_LIBRARY = "libhs.so.5"
_MODE_BLOCK, _MODE_STREAM = 1, 2
_EXT_MIN_OFFSET, _EXT_MAX_OFFSET = 1, 2
_MATCH = ctypes.CFUNCTYPE(c_int, c_uint, c_ulonglong, c_ulonglong, c_uint, c_void_p)


class NoVectorscanError(Exception):
    """The library is not installed."""


class CompileError(Exception):
    """An expression that Vectorscan refuses; ``index`` is its place among those given, -1 for all of them."""

    def __init__(self, message: str, index: int) -> None:
        super().__init__(message)
        self.message = message
        self.index = index


class _Extension(ctypes.Structure):
    _fields_ = (
        ("flags", c_ulonglong),
        ("min_offset", c_ulonglong),
        ("max_offset", c_ulonglong),
        ("min_length", c_ulonglong),
        ("edit_distance", c_uint),
        ("hamming_distance", c_uint),
    )


class _Error(ctypes.Structure):
    _fields_ = (("message", c_char_p), ("expression", c_int))


def library() -> ctypes.CDLL:
    """The loaded library. Raises NoVectorscanError."""
    try:
        return ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise NoVectorscanError(f"{_LIBRARY} cannot be loaded ({error}); install Debian's libvectorscan5") from None


class Database:
    """Compiled patterns; matches are indices of patterns and ends in bytes."""

    def __init__(self, patterns: Sequence[Pattern], *, stream: bool) -> None:
        self._hs = library()
        self._database = c_void_p()
        self._scratch = c_void_p()
        count = len(patterns)
        extensions = [_extension(pattern) for pattern in patterns]
        error = POINTER(_Error)()
        failed = self._hs.hs_compile_ext_multi(
            (c_char_p * count)(*(pattern.expression for pattern in patterns)),
            (c_uint * count)(*(pattern.flags for pattern in patterns)),
            (c_uint * count)(*range(count)),
            (POINTER(_Extension) * count)(*map(ctypes.pointer, extensions)),
            c_uint(count),
            c_uint(_MODE_STREAM if stream else _MODE_BLOCK),
            None,
            byref(self._database),
            byref(error),
        )
        if failed:
            text, index = error.contents.message.decode("utf-8", "replace"), error.contents.expression
            self._hs.hs_free_compile_error(error)
            raise CompileError(text, index)
        if self._hs.hs_alloc_scratch(self._database, byref(self._scratch)):
            self.close()
            raise CompileError("no memory to scan with", -1)

    @property
    def size(self) -> int:
        """Bytes of the compiled patterns."""
        found = ctypes.c_size_t()
        self._hs.hs_database_size(self._database, byref(found))
        return found.value

    @property
    def stream_size(self) -> int:
        """Bytes that each scanned stream keeps."""
        found = ctypes.c_size_t()
        return 0 if self._hs.hs_stream_size(self._database, byref(found)) else found.value

    def matches(self, pieces: Iterable[bytes]) -> list[list[tuple[int, int]]]:
        """Of one stream in pieces: what each piece completed, and last what the stream's end did."""
        found: list[tuple[int, int]] = []

        def on_match(pattern: int, _start: int, end: int, _flags: int, _context: object) -> int:
            found.append((pattern, end))
            return 0

        callback = _MATCH(on_match)
        answer = []
        stream = c_void_p()
        self._hs.hs_open_stream(self._database, 0, byref(stream))
        for piece in pieces:
            self._hs.hs_scan_stream(stream, piece, len(piece), 0, self._scratch, callback, None)
            answer.append(found[:])
            found.clear()
        self._hs.hs_close_stream(stream, self._scratch, callback, None)
        return [*answer, found]

    def scan(self, pieces: Iterable[bytes]) -> None:
        """Scan one stream and forget what was found: for timing."""
        stream = c_void_p()
        self._hs.hs_open_stream(self._database, 0, byref(stream))
        for piece in pieces:
            self._hs.hs_scan_stream(stream, piece, len(piece), 0, self._scratch, None, None)
        self._hs.hs_close_stream(stream, self._scratch, None, None)

    def close(self) -> None:
        """Give the memory back."""
        self._hs.hs_free_scratch(self._scratch)
        self._hs.hs_free_database(self._database)
        self._scratch, self._database = c_void_p(), c_void_p()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _extension(pattern: Pattern) -> _Extension:
    flags = _EXT_MIN_OFFSET if pattern.min_offset else 0
    flags |= _EXT_MAX_OFFSET if pattern.max_offset != NO_OFFSET else 0
    return _Extension(flags, pattern.min_offset, pattern.max_offset if flags & _EXT_MAX_OFFSET else 0, 0, 0, 0)
