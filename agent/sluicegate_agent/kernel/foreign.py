"""Programs on an interface in words, to tell of those that are not ours."""

from __future__ import annotations

from sluicegate_agent.kernel import clsact
from sluicegate_agent.kernel.libbpf import (
    XDP_GENERIC,
    XDP_NATIVE,
    AttachType,
    KernelError,
    Program,
    programs_at,
    xdp_program_at,
)


def tc_order(ifindex: int, ours: int, *, at_egress: bool = False) -> str:
    """How our tc program, by its id, runs among those of others; empty when it is alone. Raises KernelError.

    The kernel runs tcx links first, in their order, then clsact filters by priority.
    """
    before: list[str] = []
    after: list[str] = []
    side = before
    for program_id in programs_at(ifindex, AttachType.TCX_EGRESS if at_egress else AttachType.TCX_INGRESS):
        if program_id == ours:
            side = after
        else:
            side.append(program(program_id))
    for row in clsact.filters(ifindex, clsact.Side.EGRESS if at_egress else clsact.Side.INGRESS):
        if row.program_id == ours:
            side = after
        elif row.runs:
            side.append(_filter(row))
    parts = []
    if before:
        parts.append(f"after {', '.join(before)}, which may keep packets from it")
    if after:
        parts.append(f"before {', '.join(after)}")
    where = "in tc egress" if at_egress else "in tc"
    return f"{where} ours runs {' and '.join(parts)}" if parts else ""


def xdp_program(ifindex: int) -> str:
    """The XDP program on an interface; empty when there is none."""
    for flag, mode in ((XDP_NATIVE, "in the driver"), (XDP_GENERIC, "in generic mode")):
        if found := xdp_program_at(ifindex, flag):
            return f"{program(found)} {mode}"
    return ""


def all_programs(ifindex: int) -> tuple[str, ...]:
    """Whatever looks at packets that enter the interface, in order. Raises KernelError."""
    xdp = xdp_program(ifindex)
    tcx = (program(program_id) for program_id in programs_at(ifindex, AttachType.TCX_INGRESS))
    filters = (_filter(row) for row in clsact.filters(ifindex) if row.runs)
    return (*([f"XDP {xdp}"] if xdp else []), *(f"tc {words}" for words in (*tcx, *filters)))


def _filter(row: clsact.Filter) -> str:
    return program(row.program_id) if row.program_id else f"a {row.kind} filter"


def program(program_id: int) -> str:
    """Name and id, as bpftool shows them; the name alone is not unique."""
    try:
        with Program.from_id(program_id) as found:
            return f"{found.info.name or 'a program without a name'} (id {program_id})"
    except KernelError:  # it went away meanwhile
        return f"a program (id {program_id})"
