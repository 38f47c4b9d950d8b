"""The summary of a replay for people."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from sluicegate_agent.cli.document import short_bytes
from sluicegate_agent.cli.output import table_console
from sluicegate_agent.dpi.summary import Summary

_ROWS = 30


def print_summary(summary: Summary, *, to_stderr: bool) -> None:
    """Protocols, alerts, what went up, and what was lost or could not be read."""
    console = Console(highlight=False, stderr=True) if to_stderr else table_console()
    findings = summary.findings
    _say(
        console,
        f"{summary.circumstances.file}: {findings.packets} packets, {short_bytes(findings.octets)}, "
        f"{summary.seconds:.1f} s of traffic; {findings.ending}",
    )
    console.print()
    _protocols(console, summary)
    console.print()
    _alerts(console, summary)
    console.print()
    _sent(console, summary)
    _say(console, f"Losses: {_counted(summary.losses) or 'none'}")
    unreadable = dict(findings.unreadable.most_common())
    _say(console, f"Unreadable packets: {_counted(unreadable) or 'none'}")
    _say(console, _events(summary))


def _protocols(console: Console, summary: Summary) -> None:
    if summary.why_no_protocols:
        _say(console, f"No protocols: {summary.why_no_protocols}")
        return
    labels = sorted(summary.findings.labels.items(), key=lambda item: (-item[1].packets, item[0]))
    table = Table("PROTOCOL", *_numbers("FLOWS", "PACKETS", "BYTES", "SENT UP"), box=None, pad_edge=False)
    for name, totals in labels[:_ROWS]:
        share = f"{totals.records / totals.packets:.1%}" if totals.packets else "-"
        table.add_row(escape(name), str(totals.flows), str(totals.packets), short_bytes(totals.octets), share)
    console.print(table)
    if len(labels) > _ROWS:
        _say(console, f"and {len(labels) - _ROWS} more: -o json lists all")
    if summary.circumstances.classification is None:
        _say(console, f"Flows are not classified: {summary.circumstances.classification_reason}")


def _alerts(console: Console, summary: Summary) -> None:
    if summary.why_no_alerts:
        _say(console, f"No alerts: {summary.why_no_alerts}")
    else:
        table = Table(*_numbers("ALERTS", "SID"), "SIGNATURE", box=None, pad_edge=False)
        for (sid, message), count in summary.findings.alerts.most_common(_ROWS):
            table.add_row(str(count), str(sid or "-"), escape(message))
        console.print(table)
    if summary.circumstances.refused:
        _say(console, f"{summary.circumstances.refused} signatures were refused: sluicegate rules failed -f FILE")


def _sent(console: Console, summary: Summary) -> None:
    outcomes = summary.outcomes
    if summary.share_sent is None:
        _say(console, f"Sent up: nothing, because {summary.why_no_protocols}")
        return
    words = {
        "stopped": "of flows that were done",
        "dropped": "dropped by action",
        "ignored": "of flows that no rule takes",
        "empty": "without data",
        "fragment": "fragments",
    }
    rest = ", ".join(f"{outcomes[name]} {meaning}" for name, meaning in words.items() if outcomes[name])
    sniffing = summary.stats["sniffing"]
    _say(
        console,
        f"Sent up: {outcomes['sent']} of {summary.readable} packets ({summary.share_sent:.1%})"
        + (f"; not sent: {rest}" if rest else ""),
    )
    _say(
        console,
        f"Flows: {sniffing['flows']}, stopped by verdict {sniffing['stopped_by_verdict']}, by budget "
        f"{sniffing['stopped_by_budget']}, dropped {sniffing['dropped_by_verdict']}",
    )


def _events(summary: Summary) -> str:
    found, written = summary.findings.events.total(), summary.output_written
    if summary.output_problem:
        return f"Events: {written} lines written, {summary.output_lost} lost: {summary.output_problem}"
    return f"Events: {written} lines written" if written else f"Events: {found}, not written: --eve OUT writes them"


def _numbers(*names: str) -> list[Column]:
    return [Column(name, justify="right") for name in names]


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.items())


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)
