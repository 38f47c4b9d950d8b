"""signatures.md: from the tables of keywords and protocols that the rule parser itself uses."""

from __future__ import annotations

from sluicegate_agent.dpi.rules.keywords import CLASS_PRIORITIES, KEYWORDS, PROTOCOLS, Kind
from sluicegate_agent.dpi.rules.load import MAX_RULES
from sluicegate_agent.dpi.rules.options import MAX_MATCHES
from sluicegate_agent.dpi.rules.patterns import MAX_REPEAT
from sluicegate_agent.dpi.rules.syntax import MAX_RULE_LENGTH
from sluicegate_agent.dpi.rules.tables import MAX_TERMS
from sluicegate_agent.dpi.rules.trial import MAX_COST, PATTERN_SECONDS, TOTAL_SECONDS
from sluicegate_agent.reference.markdown import code, codes, table
from sluicegate_agent.reference.markdown import page as whole

_INTRODUCTION = """
Rules of a `DpiSniffer` ([spec.signatures](dpisniffer.md)) are written in a subset of Suricata's language. What is not
on this page is refused by name, never ignored. `sluicegate rules list -f FILE` says of each rule whether it is in force
and what it costs, `sluicegate rules failed -f FILE` why the others are not.

```
alert http any any -> $HOME_NET any (msg:"list of users asked for"; http.uri; content:"/etc/passwd"; sid:1000001;)
```

One rule a line; a line that ends in a backslash goes on in the next; lines that begin with `#` are comments.
"""

_STATES = (
    ("loaded", "It is in force."),
    ("rewritten", "It is in force, and the reason says what of it means something else here."),
    ("refused", "It cannot be read, or cannot be expressed; option, line and column say where."),
    (
        "quarantined",
        (
            f"It could run, but would hurt: one of its patterns takes more than {MAX_COST:g} times as long as a plain "
            f"content, more than {PATTERN_SECONDS:g} s to compile, or too much memory. All rules together have "
            f"{TOTAL_SECONDS:g} s; what is not tried by then is quarantined as well."
        ),
    ),
)

_HEADER = f"""
```
alert PROTOCOL SOURCE PORTS -> DESTINATION PORTS (options)
```

The only action is `alert`; [spec.actions](dpisniffer.md) drops flows by sid. `<>` instead of `->` takes both ways.
Source and destination are those of the packet, so a rule about answers has the server as its source.

Addresses: `any`, `192.0.2.1`, `192.0.2.0/24`, `2001:db8::/32`, `192.0.2.1-192.0.2.9`. Ports: `any`, `80`, `8000:8080`,
`1024:`, `:1023`. Both: a list `[a,b]`, `!` before anything, and `$NAME` with its value in `spec.variables`. In a
list, what is negated is taken out of the rest.

Protocols: {codes(PROTOCOLS)}. Those of applications hold for flows that were identified as such.
"""

_DIFFERENCES = f"""
- A rule alerts once per flow, however often it matches.
- Rules see what goes up to the engine: the first packets of a flow, as far as `spec.budget` goes.
- TCP is searched as a stream, segment after segment as they complete it; a match may span packets. `offset` and `depth`
  count from the start of the connection's direction, and never from the start of a later packet. With `dsize`,
  `flow:no_stream` and `tcp-pkt` each packet is searched for itself, as for UDP and ICMP.
- Several contents that are not relative to each other may come in any order, and in a stream in any segments.
- A negated content or pcre in a stream means: not seen so far in that direction when the rest has matched.
- Relative matches do not overlap (no negative `distance`), and bounds are at most {MAX_REPEAT} bytes.
- `$` and `endswith` in the stream of TCP match when the connection ends.
- Expressions are Perl's without what needs backtracking; every possible match counts, greedy or not.
- A rule has at most {MAX_RULE_LENGTH} characters, {MAX_MATCHES} contents and expressions, and {MAX_TERMS} groups of
  them that are independent of each other; a sniffer has at most {MAX_RULES} rules.
- Each sid stands once. `alert ip` with contents searches streams of TCP, datagrams of UDP, and ICMP.
"""


def page() -> str:
    """The text."""
    parts = [_INTRODUCTION, "## What becomes of a rule", table(("state", "meaning"), _STATES), "## Header", _HEADER]
    for kind in Kind:
        rows = [(code(word), code(each.form), each.meaning) for word, each in KEYWORDS.items() if each.kind is kind]
        parts += [f"## {kind}", table(("option", "form", "meaning"), rows)]
    parts += ["## What differs from Suricata", _DIFFERENCES, "## Priorities of classes"]
    priorities: dict[int, list[str]] = {}
    for name, priority in CLASS_PRIORITIES.items():
        priorities.setdefault(priority, []).append(name)
    classes = [(str(priority), codes(sorted(names))) for priority, names in sorted(priorities.items())]
    parts.append(table(("priority", "classtype"), classes))
    return whole("Signatures", *parts)
