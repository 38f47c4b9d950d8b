"""The built module, or what to do when there is none; errors of the engine."""

import importlib
from types import ModuleType
from typing import Any, Final

from sluicegate_agent.dpi.engine_model import DETAIL, EVENT

NOT_BUILT: Final = (
    "the sniffer's engine is not built: run 'make setup' (it needs gcc, python3-dev, libvectorscan-dev and the Python "
    "packages of requirements/dpi.txt)"
)


def _load() -> tuple[ModuleType | None, str]:
    """The built module, or why it cannot be used."""
    try:
        native: Any = importlib.import_module("sluicegate_agent.dpi._native")
    except ModuleNotFoundError:
        return None, NOT_BUILT
    except ImportError as error:  # a library that it needs is gone
        return None, f"{NOT_BUILT}: {error}"
    if (native.lib.sg_sizeof_event(), native.lib.sg_sizeof_detail()) != (EVENT.size, DETAIL.size):
        return None, f"{NOT_BUILT}: what is built is of another version"
    return native, ""


_native, _reason = _load()


class EngineError(Exception):
    """The engine cannot do what was asked; the text says why and what to do."""


class PatternError(EngineError):
    """A pattern was refused by the scanner."""

    def __init__(self, message: str, pattern: int) -> None:
        super().__init__(message)
        self.pattern = pattern


def module() -> Any:
    """The built module's `ffi` and `lib`; raises EngineError when there is none."""
    if _native is None:
        raise EngineError(_reason or NOT_BUILT)
    return _native


def error() -> str:
    """What the last call that failed in this thread says."""
    native = module()
    words: str = native.ffi.string(native.lib.sg_error()).decode(errors="replace")
    return words


def check(code: int, what: str) -> None:
    """Raise EngineError with the engine's words when a call's answer is negative."""
    if code < 0:
        msg = f"{what}: {error()}"
        raise EngineError(msg)


def text(pointer: Any) -> str | None:
    """A C string; None for NULL."""
    native = module()
    if pointer == native.ffi.NULL:
        return None
    words: str = native.ffi.string(pointer).decode(errors="replace")
    return words


def available() -> str | None:
    """None when the engine is built; else what to do."""
    return (_reason or NOT_BUILT) if _native is None else None


def scanner_version() -> str:
    """Vectorscan's version."""
    return text(module().lib.sg_scanner_version()) or ""
