"""Sniffers in ``sluicegate status``, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from sluicegate_agent.cli.document import Sniffer

_RULES = 10
"""Most rules that the wide form lists."""


def print_sniffer(sniffer: Sniffer, console: Console, *, wide: bool) -> None:
    """One sniffer. Each part that is empty says why."""
    from rich.markup import escape  # noqa: PLC0415

    word = "[green]ready[/]" if sniffer.ready else "[red]not ready[/]"
    console.print(
        f"[bold]{sniffer.namespace}/{sniffer.name}[/]  sniffer, {word}  ({escape(sniffer.source)})", soft_wrap=True
    )
    for condition in sniffer.conditions:
        if condition.alarming:
            text = f"  {condition.type}: {condition.status}, {condition.reason}: {condition.message}"
            console.print(text, markup=False, soft_wrap=True)
    for line in (_interfaces(sniffer), _traffic(sniffer), _flows(sniffer), *_engine(sniffer), _events(sniffer)):
        console.print(f"  {line}", markup=False, soft_wrap=True)
    for note in sniffer.notes:
        console.print(f"  [yellow]note[/]: {escape(note)}", soft_wrap=True)
    if wide:
        _print_wide(sniffer, console)


def _interfaces(sniffer: Sniffer) -> str:
    if not sniffer.interfaces:
        return f"interfaces: none: {_reason(sniffer, 'interfaces')}"
    return "interfaces: " + ", ".join(
        f"{each.name} ({each.mode})" if each.sniffed else f"{each.name} (not sniffed)" for each in sniffer.interfaces
    )


def _traffic(sniffer: Sniffer) -> str:
    if not sniffer.packets:
        return f"packets: none: {_reason(sniffer, 'packets')}"
    share = "nothing" if not sniffer.sent else f"{sniffer.sent} sent up ({sniffer.sent_share or 0.0:.1%})"
    why = "" if sniffer.sent else f": {_reason(sniffer, 'sent')}"
    rest = f"{sniffer.dropped} dropped by actions, {sniffer.lost} records lost"
    return f"packets: {sniffer.packets}, {share}{why}, {rest}"


def _flows(sniffer: Sniffer) -> str:
    if not sniffer.flows:
        return f"flows: none: {_reason(sniffer, 'flows')}"
    decided = sniffer.decided_flows
    return (
        f"flows: {sniffer.flows}, {sniffer.active_flows} now; stopped by verdict {decided.verdict}, by budget "
        f"{decided.budget}, under pressure {decided.pressure}; dropped {decided.drop}"
    )


def _engine(sniffer: Sniffer) -> list[str]:
    running = sum(worker.state == "running" for worker in sniffer.workers)
    label = f"nDPI {sniffer.classification}" if sniffer.classification else _reason(sniffer, "classification")
    workers = f"{running} of {len(sniffer.workers)} workers" if sniffer.workers else _reason(sniffer, "workers")
    cost = sniffer.cpu_seconds_per_million_packets
    tail = f"; {cost:.2f} s of CPU time per million packets" if cost is not None else ""
    signatures = sniffer.signatures
    if signatures is None:
        rules = f"none: {_reason(sniffer, 'signatures')}"
    else:
        rules = f"{signatures.loaded + signatures.rewritten} in force, {signatures.refused} refused, "
        rules += f"{signatures.quarantined} quarantined" + (", loading" if signatures.loading else "")
    return [f"engine: {workers}; classification: {label}{tail}", f"signatures: {rules}"]


def _events(sniffer: Sniffer) -> str:
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(sniffer.events.items()))
    output = sniffer.output
    where = f"to {output.path or 'standard output'}" if output is not None else _reason(sniffer, "output")
    return f"events: {counts or 'none: ' + _reason(sniffer, 'events')}; {where}"


def _reason(sniffer: Sniffer, part: str) -> str:
    return sniffer.reasons.get(part, "not known")


def _print_wide(sniffer: Sniffer, console: Console) -> None:
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    ends = ("SENT", "EMPTY", "STOPPED", "DROPPED", "IGNORED", "FRAGMENTS", "UNREADABLE", "LOST", "NO WORKER", "NO ROOM")
    packets = Table("  PACKETS", *ends, box=None, pad_edge=False)
    counts = (
        sniffer.sent,
        sniffer.empty,
        sniffer.stopped,
        sniffer.dropped,
        sniffer.ignored,
        sniffer.fragments,
        sniffer.unreadable,
        sniffer.lost,
        sniffer.no_worker,
        sniffer.no_room,
    )
    packets.add_row(f"  {sniffer.packets}", *map(str, counts))
    console.print(packets)
    if sniffer.rules:
        rules = Table("  RULE", "FLOWS", box=None, pad_edge=False)
        for rule in sniffer.rules[:_RULES]:
            rules.add_row(f"  {escape(rule.name)}", str(rule.flows))
        if len(sniffer.rules) > _RULES:
            rules.add_row(f"  and {len(sniffer.rules) - _RULES} more", "")
        rules.add_row("  none of them: left alone", str(sniffer.unmatched_flows))
        console.print(rules)
    if sniffer.workers:
        heads = ("WORKER", "STATE", "PID", "RESTARTS", "QUARANTINED", "CPU", "RING", "LOST", "REASON")
        workers = Table(f"  {heads[0]}", *heads[1:], box=None, pad_edge=False)
        for each in sniffer.workers:
            ring = f"{each.ring_used / each.ring_bytes:.0%}" if each.ring_bytes else "-"
            workers.add_row(
                f"  {each.number}",
                each.state,
                "-" if each.pid is None else str(each.pid),
                str(each.restarts),
                str(each.quarantined),
                f"{each.cpu_seconds:.1f} s",
                ring,
                str(each.lost),
                escape(each.reason),
            )
        console.print(workers)
