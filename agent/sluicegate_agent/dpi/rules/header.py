"""What stands before a rule's options: action, protocol, and who sends to whom."""

from __future__ import annotations

from sluicegate_agent.dpi.rules.errors import RuleError
from sluicegate_agent.dpi.rules.keywords import PROTOCOLS
from sluicegate_agent.dpi.rules.model import L4, Header
from sluicegate_agent.dpi.rules.places import Places, shortened
from sluicegate_agent.dpi.rules.syntax import RuleWords


def header_of(words: RuleWords, places: Places) -> Header:
    """What the seven words say. Raises RuleError."""
    action, protocol, source, source_ports, arrow, destination, destination_ports = words.header
    if action != "alert":
        known = action in {"drop", "pass", "reject", "rejectsrc", "rejectdst", "rejectboth", "log", "config"}
        hint = "write alert, and name the sid in spec.actions to drop its flows" if known else "rules begin with alert"
        raise RuleError(f"action {shortened(action)}: {hint}", keyword="header", column=words.columns[0])
    if protocol.lower() not in PROTOCOLS:
        raise RuleError(
            f"protocol {shortened(protocol)} is not supported here yet; write one of {', '.join(PROTOCOLS)}",
            keyword="header",
            column=words.columns[1],
        )
    if arrow not in {"->", "<>"}:
        raise RuleError(f"{shortened(arrow)} stands where -> or <> belongs", keyword="header", column=words.columns[4])
    l4, app = PROTOCOLS[protocol.lower()]
    found = []
    for read, text, column in (
        (places.addresses, source, 2),
        (places.ports, source_ports, 3),
        (places.addresses, destination, 5),
        (places.ports, destination_ports, 6),
    ):
        try:
            found.append(read(text))
        except RuleError as error:
            raise error.at("header", words.columns[column]) from None
    return Header(L4(l4), app, found[0], found[1], found[2], found[3], both_ways=arrow == "<>")
