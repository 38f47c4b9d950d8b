"""Joining of sources and what their digest depends on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sluicegate_agent.loader.errors import LoaderError
from sluicegate_agent.loader.request import Hook, LoadRequest, Unit
from sluicegate_agent.loader.sources import Reason, inner_templates, join, reasons, set_digest


@pytest.fixture
def request_(tmp_path: Path) -> LoadRequest:
    sources = tmp_path / "a"
    sources.mkdir()
    (sources / "main.c").write_text('#include <uapi/linux/bpf.h>\n#include "maps.h"\n#include "types.h"\nint f;\n')
    (sources / "maps.h").write_text('#include "types.h"\nint maps;\n')
    (sources / "types.h").write_text("int types;\n")
    unit = Unit("main.c", Hook.XDP, ("f",), {"g": 0})
    return LoadRequest(sources, tmp_path, {"FLOWS": 8}, {"IPV4": True}, (unit,))


def test_a_header_is_put_in_once_and_every_line_keeps_its_place(request_: LoadRequest) -> None:
    directory = request_.sources
    assert join(directory, "main.c").splitlines() == [
        f'#line 1 "{directory}/main.c"',
        "#include <uapi/linux/bpf.h>",
        f'#line 1 "{directory}/maps.h"',
        f'#line 1 "{directory}/types.h"',
        "int types;",
        f'#line 2 "{directory}/maps.h"',
        "int maps;",
        f'#line 3 "{directory}/main.c"',
        f'#line 4 "{directory}/main.c"',
        "int f;",
    ]


def test_a_missing_header_is_named_with_the_line_that_wants_it(request_: LoadRequest) -> None:
    (request_.sources / "types.h").unlink()
    with pytest.raises(LoaderError, match=r"types\.h: No such file .*maps\.h:1 includes it"):
        join(request_.sources, "main.c")


def test_the_digest_of_a_set_does_not_depend_on_where_its_sources_lie(request_: LoadRequest, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    before = set_digest(request_)
    request_.sources.rename(moved)
    assert set_digest(replace(request_, sources=moved, pins=tmp_path / "pins")) == before


@pytest.mark.parametrize(
    "change",
    [
        {"sizes": {"FLOWS": 9}},
        {"features": {"IPV4": False}},
        {"units": (Unit("main.c", Hook.TC, ("f",), {"g": 0}),)},
        {"units": (Unit("main.c", Hook.XDP, ("f",), {"g": 1}),)},
    ],
)
def test_the_digest_of_a_set_moves_with_all_that_decides_what_is_loaded(
    request_: LoadRequest, change: dict[str, object]
) -> None:
    assert set_digest(replace(request_, **change)) != set_digest(request_)


def test_the_digest_of_a_set_moves_with_the_text_of_a_header(request_: LoadRequest) -> None:
    before = set_digest(request_)
    (request_.sources / "types.h").write_text("long types;\n")
    assert set_digest(request_) != before


def test_the_template_of_a_map_of_maps_is_found_in_its_declaration() -> None:
    text = 'BPF_ARRAY_OF_MAPS(tables, "slots", 8);\n  BPF_HASH_OF_MAPS(sets, u32, "rows", 4);\n'
    assert inner_templates(text) == {"tables": "slots", "sets": "rows"}


def test_reasons_are_read_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "reasons.h").write_text(
        '#define REASONS(REASON) \\\n    REASON(NOT_OURS, pass, "neither (VIP) nor, ours") \\\n'
        '    REASON(NO_FLOW, drop, "not known here")\n#define REASON_ENUM(name, kind, text) REASON_##name,\n'
    )
    assert reasons(tmp_path) == (
        Reason("NOT_OURS", "pass", "neither (VIP) nor, ours"),
        Reason("NO_FLOW", "drop", "not known here"),
    )
