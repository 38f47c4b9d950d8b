"""Finds nDPI 5.0 in the wheel of nfstream and checks that it is the one we know."""

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from typing import Any, Final

WHEEL: Final = "nfstream"
VERSION: Final = "6.6.0"
# The library inside the wheel: a cffi extension that exports nDPI's functions because it is linked statically.
MODULE: Final = "_lib_engine"
HOW: Final = "make setup installs it (requirements/dpi.txt); by hand: pip install --no-deps nfstream==6.6.0 cffi"


@dataclass(frozen=True, slots=True)
class NdpiLibrary:
    """Where nDPI is and how its structures lie; sizes and offsets in bytes, from the wheel's own declarations."""

    path: str
    flow_size: int
    serializer_size: int
    state_offset: int
    confidence_offset: int
    risk_offset: int


@dataclass(frozen=True, slots=True)
class NoNdpi:
    """Why classification is off, and what turns it on."""

    reason: str


def find() -> NdpiLibrary | NoNdpi:
    """The library, or the reason it is not used. Never raises: without nDPI rules still work."""
    try:
        version = importlib.metadata.version(WHEEL)
    except importlib.metadata.PackageNotFoundError:
        return NoNdpi(f"the package {WHEEL}, which has nDPI in it, is not installed. {HOW}")
    if version != VERSION:
        return NoNdpi(f"{WHEEL} is version {version}, known is {VERSION}. {HOW}")
    spec = importlib.util.find_spec(MODULE)
    if spec is None or spec.origin is None:
        return NoNdpi(f"{WHEEL} {version} has no {MODULE}. {HOW}")
    try:
        # Loaded like any extension, with its symbols kept to itself.
        declared: Any = importlib.import_module(MODULE).ffi
        flow = "struct ndpi_flow_struct"
        return NdpiLibrary(
            path=spec.origin,
            flow_size=declared.sizeof(flow),
            serializer_size=declared.sizeof("ndpi_serializer"),
            state_offset=declared.offsetof(flow, "state"),
            confidence_offset=declared.offsetof(flow, "confidence"),
            risk_offset=declared.offsetof(flow, "risk"),
        )
    except (ImportError, AttributeError, KeyError, ValueError, TypeError) as error:
        return NoNdpi(f"{spec.origin} cannot be used: {error}. {HOW}")
    except Exception as error:  # noqa: BLE001 - cffi's own error class is that of the wheel's cffi, not importable here
        return NoNdpi(f"{spec.origin} does not declare what is needed: {error}. {HOW}")
