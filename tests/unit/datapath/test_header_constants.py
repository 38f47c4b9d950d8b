"""Numbers that Python and the programs share are written down on both sides; here they are held against each other."""

from __future__ import annotations

import re
from enum import IntEnum, IntFlag

import pytest

from sluicegate_agent.datapath import codec, flows, invariants
from sluicegate_agent.datapath.kernel import HOOKS
from sluicegate_agent.datapath.model import Algorithm, BackendState, ForwardingMode, InterfaceFlag
from sluicegate_agent.loader.request import bpf_sources
from sluicegate_agent.loader.sources import reasons


def header(name: str) -> str:
    """A header without its comments."""
    text = (bpf_sources() / name).read_text(encoding="utf-8")
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def enum(text: str, name: str) -> dict[str, int]:
    """The members of a C enum, all of which must have a value."""
    found = re.search(rf"enum {name} \{{([^}}]*)\}}", text)
    assert found is not None, f"enum {name}"
    return {member: int(value) for member, value in re.findall(r"(\w+) = (\d+)", found[1])}


def members(kind: type[IntEnum] | type[IntFlag], prefix: str) -> dict[str, int]:
    return {f"{prefix}_{member.name}": int(member) for member in kind}


@pytest.mark.parametrize(
    ("name", "prefix", "kind"),
    [
        ("forwarding_mode", "MODE", ForwardingMode),
        ("algorithm", "ALGORITHM", Algorithm),
        ("backend_state", "BACKEND", BackendState),
        ("interface_flag", "INTERFACE", InterfaceFlag),
    ],
)
def test_an_enum_has_the_same_members_on_both_sides(
    name: str, prefix: str, kind: type[IntEnum] | type[IntFlag]
) -> None:
    assert enum(header("types.h"), name) == members(kind, prefix)


def test_flags_of_hops_agree() -> None:
    flags = {"HOP_RESOLVED": codec.HOP_RESOLVED, "HOP_XDP": codec.HOP_XDP, "HOP_LOCAL": codec.HOP_LOCAL}
    assert enum(header("types.h"), "hop_flag") == flags
    assert enum(header("types.h"), "backend_flag") == {"BACKEND_LOCAL": codec.BACKEND_LOCAL}


def test_flags_of_frontends_agree() -> None:
    flags = {"FRONTEND_RESTRICTED": codec.RESTRICTED, "FRONTEND_AFFINITY": codec.AFFINITY}
    assert enum(header("types.h"), "frontend_flag") == flags


def test_states_of_flows_that_the_sweep_reads_agree() -> None:
    states = enum(header("types.h"), "flow_state")
    for name in ("ESTABLISHED", "CLIENT_FIN", "BACKEND_FIN", "RESET"):
        assert getattr(flows, name) == states[f"FLOW_{name}"], name


def test_hooks_are_in_the_order_of_their_numbers() -> None:
    numbers = enum(header("reasons.h"), "hook")
    assert {f"HOOK_{name.upper()}": number for number, name in enumerate(HOOKS)} == numbers


def test_a_reverse_row_holds_as_many_frontends_as_the_invariants_allow() -> None:
    found = re.search(r"#define REVERSE_FRONTENDS (\d+)", header("types.h"))
    assert found is not None
    assert int(found[1]) == invariants.REVERSE_FRONTENDS


def test_every_reason_has_one_of_the_four_kinds_and_words_for_people() -> None:
    rows = reasons(bpf_sources())
    assert len({row.name for row in rows}) == len(rows) > 20
    for row in rows:
        assert row.kind in {"pass", "punt", "forward", "drop"}, row.name
        assert row.text
