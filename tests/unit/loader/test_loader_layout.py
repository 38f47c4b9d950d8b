"""Layouts of keys and values."""

from __future__ import annotations

import json

import pytest

from sluicegate_agent.loader import layout
from sluicegate_agent.loader.errors import LoaderError
from sluicegate_agent.loader.layout import Field

NESTED = json.dumps(
    [
        "flow",
        [
            ["backend", "unsigned int"],
            ["mac", "unsigned char", [6]],
            ["gen", "unsigned short"],
            ["__pad_3", "char", [4]],
            ["x", "unsigned long long"],
            ["hops", ["hop", [["ifindex", "unsigned int"], ["state", ["s", ["A", "B"], "enum"]]], "struct"], [2]],
        ],
        "struct_packed",
    ]
)


def test_a_struct_becomes_its_members_with_their_padding() -> None:
    hop = (Field("ifindex", "<u4"), Field("state", "<u4"))
    assert layout.from_description(NESTED, "flow") == (
        Field("backend", "<u4"),
        Field("mac", "u1", (6,)),
        Field("gen", "<u2"),
        Field("__pad_3", "u1", (4,)),
        Field("x", "<u8"),
        Field("hops", hop, (2,)),
    )


def test_the_size_agrees_with_numpy() -> None:
    flow = layout.from_description(NESTED, "flow")
    assert layout.size(flow) == layout.dtype(flow).itemsize == 40


def test_numpy_reads_members_where_the_kernel_wrote_them() -> None:
    dtype = layout.dtype(layout.from_description(NESTED, "flow"))
    offsets = {name: dtype.fields[name][1] for name in dtype.names}
    assert offsets == {"backend": 0, "mac": 4, "gen": 10, "__pad_3": 12, "x": 16, "hops": 24}


def test_a_plain_integer_becomes_a_row_with_one_member() -> None:
    assert layout.dtype(layout.from_description('"unsigned int"', "key")).names == ("value",)


def test_a_layout_survives_json() -> None:
    flow = layout.from_description(NESTED, "flow")
    assert layout.from_json(json.loads(json.dumps(layout.to_json(flow)))) == flow


@pytest.mark.parametrize(
    "description",
    [
        '["s", [["a", "unsigned int", 3]], "struct"]',
        '["u", [["a", "unsigned int"], ["b", "unsigned short"]], "union"]',
        '"unsigned __int128"',
    ],
)
def test_what_user_space_cannot_describe_is_refused_by_name(description: str) -> None:
    with pytest.raises(LoaderError, match="the value of flows"):
        layout.from_description(description, "the value of flows")
