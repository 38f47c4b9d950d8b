"""Instructions without descriptors, and descriptors put back."""

from __future__ import annotations

import json
import struct

import pytest

from sluicegate_agent.loader.errors import LoaderError
from sluicegate_agent.loader.image import FunctionImage, MapImage, UnitImage
from sluicegate_agent.loader.layout import Field

LOAD_IMMEDIATE, MOVE, EXIT = 0x18, 0xB7, 0x95
MAP_FD, MAP_VALUE = 0x10, 0x20


def instruction(code: int, registers: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("<BBhi", code, registers, 0, immediate)


def test_references_to_maps_become_names_and_get_the_descriptor_in_use() -> None:
    code = instruction(EXIT) + instruction(LOAD_IMMEDIATE, MAP_FD | 1, 7) + instruction(0) + instruction(EXIT)
    image = FunctionImage.unlinked(code, {7: "flows"})
    assert image.references == ((1, "flows"),)
    assert image.code == code.replace(bytes([7]), bytes([0]))
    assert image.linked({"flows": 42}) == code.replace(bytes([7]), bytes([42]))


def test_the_same_instructions_with_other_descriptors_are_the_same_image() -> None:
    images = {
        FunctionImage.unlinked(instruction(LOAD_IMMEDIATE, MAP_FD, fd) + instruction(0), {fd: "flows"}) for fd in (7, 8)
    }
    assert len(images) == 1


def test_other_64_bit_constants_and_plain_numbers_are_left_alone() -> None:
    code = instruction(LOAD_IMMEDIATE, 1, 7) + instruction(0, 0, 9) + instruction(MOVE, MAP_FD, 7)
    assert FunctionImage.unlinked(code, {7: "flows"}) == FunctionImage(code, ())


def test_the_second_half_of_a_constant_is_no_instruction() -> None:
    code = instruction(LOAD_IMMEDIATE, 1, 7) + instruction(LOAD_IMMEDIATE, MAP_FD, 7)
    assert FunctionImage.unlinked(code, {7: "flows"}) == FunctionImage(code, ())


@pytest.mark.parametrize(
    ("registers", "expected"),
    [(MAP_FD, "instruction 1 refers to an unknown map"), (MAP_VALUE, "instruction 1 refers to .* unknown kind 2")],
)
def test_a_reference_that_could_not_be_put_back_is_refused(registers: int, expected: str) -> None:
    code = instruction(EXIT) + instruction(LOAD_IMMEDIATE, registers, 7) + instruction(0)
    with pytest.raises(LoaderError, match=expected):
        FunctionImage.unlinked(code, {8: "flows"})


def test_a_map_that_there_is_not_is_named() -> None:
    with pytest.raises(LoaderError, match="instruction 0 refers to the map flows, which there is not"):
        FunctionImage(bytes(16), ((0, "flows"),)).linked({"nat": 3})


def test_an_image_survives_being_written_down() -> None:
    value = (Field("hop", (Field("mac", "u1", (6,)), Field("__pad_0", "u1", (2,)))), Field("seen", "<u8"))
    rows = MapImage("rows", 1, "<u4", value, 4, 16, 1024, 1)
    image = UnitImage("GPL", (rows,), {"main": FunctionImage(bytes(range(24)), ((0, "rows"),))})
    assert UnitImage.from_json(json.loads(json.dumps(image.to_json()))) == image
