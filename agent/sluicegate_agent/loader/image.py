"""What the compiler makes of one file, independent of any descriptor: it can be kept and loaded again later."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from sluicegate_agent.kernel.libbpf import INSTRUCTION_BYTES
from sluicegate_agent.loader import layout
from sluicegate_agent.loader.errors import LoaderError
from sluicegate_agent.loader.layout import Layout

# include/uapi/linux/bpf.h: ld_imm64 takes two instructions; the high half of its registers' byte says what the
# immediate is.
_LOAD_IMMEDIATE_64 = 0x18
_PLAIN_NUMBER = 0
_MAP_DESCRIPTOR = 1  # BPF_PSEUDO_MAP_FD


@dataclass(frozen=True, slots=True)
class MapImage:
    """A map as declared. Sizes in bytes, ``flags`` are ``BPF_F_*``."""

    name: str
    type: int
    key: Layout
    value: Layout
    key_size: int
    value_size: int
    max_entries: int
    flags: int

    def to_json(self) -> list[object]:
        """Plain values, in the order of the fields."""
        shapes = (layout.to_json(self.key), layout.to_json(self.value))
        return [self.name, self.type, *shapes, self.key_size, self.value_size, self.max_entries, self.flags]

    @classmethod
    def from_json(cls, raw: list[Any]) -> Self:
        """Read what :meth:`to_json` made."""
        name, kind, key, value, *numbers = raw
        return cls(str(name), int(kind), layout.from_json(key), layout.from_json(value), *map(int, numbers))


@dataclass(frozen=True, slots=True)
class FunctionImage:
    """Instructions whose references to maps are 0, and those references: number of the instruction, name of the map."""

    code: bytes
    references: tuple[tuple[int, str], ...]

    @classmethod
    def unlinked(cls, instructions: bytes, names: Mapping[int, str]) -> Self:
        """From instructions that hold descriptors; ``names`` has the maps' names by descriptor.

        Raises LoaderError for a descriptor of no map and for references of another kind, which could not be put back.
        """
        code = bytearray(instructions)
        references = []
        second_half = False
        for number, offset in enumerate(range(0, len(code), INSTRUCTION_BYTES)):
            if second_half:
                second_half = False
                continue
            operation, registers, _, immediate = struct.unpack_from("<BBhi", code, offset)
            second_half = operation == _LOAD_IMMEDIATE_64
            source = registers >> 4 if second_half else _PLAIN_NUMBER
            if source == _PLAIN_NUMBER:
                continue
            if source != _MAP_DESCRIPTOR or immediate not in names:
                what = "an unknown map" if source == _MAP_DESCRIPTOR else f"something of the unknown kind {source}"
                raise LoaderError(f"instruction {number} refers to {what}")
            references.append((number, names[immediate]))
            struct.pack_into("<i", code, offset + 4, 0)
        return cls(bytes(code), tuple(references))

    def linked(self, descriptors: Mapping[str, int]) -> bytes:
        """Instructions that refer to the maps by these descriptors. Raises LoaderError for a map that has none."""
        code = bytearray(self.code)
        for number, name in self.references:
            if name not in descriptors:
                raise LoaderError(f"instruction {number} refers to the map {name}, which there is not")
            struct.pack_into("<i", code, number * INSTRUCTION_BYTES + 4, descriptors[name])
        return bytes(code)


@dataclass(frozen=True, slots=True)
class UnitImage:
    """A compiled file; ``license_name`` is what it declares to the kernel."""

    license_name: str
    maps: tuple[MapImage, ...]
    functions: dict[str, FunctionImage]

    def to_json(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return {
            "license": self.license_name,
            "maps": [row.to_json() for row in self.maps],
            "functions": {
                name: [base64.b64encode(row.code).decode("ascii"), [list(each) for each in row.references]]
                for name, row in self.functions.items()
            },
        }

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Self:
        """Read what :meth:`to_json` made. Raises ValueError, KeyError or TypeError on anything else."""
        return cls(
            str(raw["license"]),
            tuple(MapImage.from_json(row) for row in raw["maps"]),
            {
                name: FunctionImage(
                    base64.b64decode(code, validate=True), tuple((int(number), str(of)) for number, of in references)
                )
                for name, (code, references) in raw["functions"].items()
            },
        )
