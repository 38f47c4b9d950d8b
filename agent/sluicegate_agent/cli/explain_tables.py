"""The answer of ``sluicegate explain`` for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sluicegate_agent.cli.document import short_bytes

_SMALL = 0.01
"""Maps below this part of the whole are told together."""


def print_tables(document: dict[str, Any], console: Console) -> None:
    """Load balancers one by one, then what all of them need together."""
    for balancer in document["loadbalancers"]:
        _print_balancer(balancer, console)
    for sniffer in document["sniffers"]:
        _print_sniffer(sniffer, console)
    if not document["loadbalancers"] and not document["sniffers"]:
        console.print("no load balancer and no sniffer of these files can be applied\n")
    totals = document["totals"]
    _say(
        console,
        f"In all: {totals['frontends']} VIP ports, {totals['backends']} backends, "
        f"{totals['healthChecksPerSecond']:g} health checks and {totals['signalQuestionsPerSecond']:g} questions for "
        "load per second",
    )
    _say(console, f"Compiled: {', '.join(document['features']) or 'nothing'}")
    _print_memory(document["memory"], console)
    for note in document["notes"]:
        _say(console, f"note: {note}")


def _print_balancer(balancer: dict[str, Any], console: Console) -> None:
    console.print(f"[bold]{escape(balancer['namespace'] + '/' + balancer['name'])}[/]  ({escape(balancer['source'])})")
    where = [f"{each['name']} ({each['reason']})" for each in balancer["interfaces"]]
    _say(console, f"  interfaces here: {', '.join(where) or 'none'}")
    _say(console, f"  limits: {_limits(balancer['limits'])}")
    for note in balancer["notes"]:
        _say(console, f"  note: {note}")
    for service in balancer["services"]:
        _print_service(service, console)
    console.print()


def _print_sniffer(sniffer: dict[str, Any], console: Console) -> None:
    console.print(f"[bold]{escape(sniffer['namespace'] + '/' + sniffer['name'])}[/]  ({escape(sniffer['source'])})")
    where = [f"{each['name']} ({each['reason']})" for each in sniffer["interfaces"]]
    _say(console, f"  sniffed here: {', '.join(where) or 'nowhere'}")
    rules = [f"{each['name']}{' (left alone)' if each['ignore'] else ''}" for each in sniffer["rules"]]
    _say(console, f"  flows: {', '.join(rules) or 'all'}")
    budget = sniffer["budget"]
    _say(
        console,
        f"  of each at most {budget['maxPackets']} packets, {budget['payloadPackets']} with data, and "
        f"{short_bytes(budget['payloadBytes'])} of data{', less under pressure' if budget['adaptive'] else ''}",
    )
    output = sniffer["output"]
    target = "nowhere" if output is None else output["path"] or output["type"]
    actions = ", ".join(sniffer["actions"]) or "none"
    _say(console, f"  classification: {sniffer['depth']}; actions: {actions}; events: {target}")
    for note in sniffer["notes"]:
        _say(console, f"  note: {note}")
    console.print()


def _print_service(service: dict[str, Any], console: Console) -> None:
    places = [
        f"[{each['address']}]:{each['port']}" if service["family"] == 6 else f"{each['address']}:{each['port']}"
        for each in service["frontends"]
    ]
    protocol = service["frontends"][0]["protocol"]
    _say(console, f"  {service['port']} over IPv{service['family']}: {', '.join(places)} {protocol}")
    _say(
        console,
        f"    {service['algorithm']}, {service['mode']}, table of {service['tableSlots']} slots, "
        f"silent flows are forgotten after {service['idleSeconds']:g} s",
    )
    check, signals = service["healthCheck"], service["signals"]
    asked = (
        f"{check['type']} every {check['intervalSeconds']} s, {check['perSecond']:g} per second" if check else "none"
    )
    _say(console, f"    health checks: {asked}")
    load = f"{signals['type']}, {signals['perSecond']:g} questions per second" if signals else "configured ones hold"
    _say(console, f"    weights: {load}")
    table = Table("    BACKEND", "WEIGHT", "SLOTS", "SHARE", "", box=None, pad_edge=False)
    for backend in service["backends"]:
        host = f"[{backend['address']}]" if service["family"] == 6 else backend["address"]
        table.add_row(
            escape(f"    {host}:{backend['port']}"),
            str(backend["weight"]),
            str(backend["slots"]),
            f"{backend['share']:.1%}",
            escape(backend["note"]),
        )
    if service["backends"]:
        console.print(table)
    for note in service["notes"]:
        _say(console, f"    note: {note}")


def _limits(limits: dict[str, Any]) -> str:
    parts = [f"leaving backends drain for {limits['drainSeconds']} s"]
    if limits["slowStartSeconds"]:
        parts.append(f"new ones grow over {limits['slowStartSeconds']} s")
    if limits["affinitySeconds"]:
        parts.append(f"a client keeps its backend for {limits['affinitySeconds']} s")
    if limits["allowedSources"] is not None:
        parts.append(f"only from {', '.join(limits['allowedSources']) or 'nowhere'}")
    if limits["maxNewConnectionsPerSecond"] is not None:
        parts.append(f"at most {limits['maxNewConnectionsPerSecond']} new flows per second and port")
    return "; ".join(parts)


def _print_memory(memory: dict[str, Any], console: Console) -> None:
    _say(
        console,
        f"Memory of the kernel's tables: {short_bytes(memory['bytes'])} at once, "
        f"{short_bytes(memory['bytesWhenFull'])} when all are full",
    )
    table = Table(box=None, pad_edge=False)
    table.add_column("  TABLE")
    table.add_column("KIND")
    for name in ("ENTRIES", "AT ONCE", "FULL"):
        table.add_column(name, justify="right")
    least = _SMALL * memory["bytesWhenFull"]
    small = [row for row in memory["maps"] if row["bytesWhenFull"] < least]
    for row in memory["maps"]:
        if row not in small:
            table.add_row(f"  {row['name']}", row["kind"], str(row["entries"]), *_sizes([row]))
    if small:
        table.add_row(f"  {len(small)} smaller ones", "-o json names them", "", *_sizes(small))
    console.print(table)


def _sizes(rows: list[dict[str, Any]]) -> tuple[str, str]:
    return short_bytes(sum(row["bytes"] for row in rows)), short_bytes(sum(row["bytesWhenFull"] for row in rows))


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)
