"""What a replay says at its end: plain data first, the same for tables and JSON. No view is empty without a reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sluicegate_agent.dpi.events.outputs import Output
from sluicegate_agent.dpi.offline import Findings, OfflineRun
from sluicegate_agent.dpi.sniffing.sniffer import Outcome

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a summary must know besides the findings. ``classification``: nDPI's revision, or None and why not.

    ``signatures``: how many were loaded, and how many refused.
    """

    file: str
    vnf: str
    node: str
    classification: str | None
    classification_reason: str
    signatures: int
    refused: int


@dataclass(frozen=True, slots=True)
class Summary:
    """The whole answer. ``why_no_...`` is empty when there is something to show."""

    circumstances: Circumstances
    findings: Findings
    stats: Mapping[str, Mapping[str, int]]
    share_sent: float | None
    outcomes: Mapping[str, int]
    output_written: int
    output_lost: int
    output_problem: str

    @classmethod
    def of(cls, run: OfflineRun, output: Output, circumstances: Circumstances) -> Summary:
        """What became of a run."""
        counters = run.sniffer.counters
        return cls(
            circumstances,
            run.findings,
            run.stats(),
            counters.share_sent,
            {outcome.name.lower(): counters.packets[outcome] for outcome in Outcome},
            output.written,
            output.lost,
            output.problem,
        )

    @property
    def readable(self) -> int:
        """Packets with an IP header that could be read."""
        return sum(self.outcomes.values())

    @property
    def seconds(self) -> float:
        """From the first packet to the last, by the capture's clock."""
        return max(self.findings.last_ns - self.findings.first_ns, 0) / 1e9

    @property
    def why_no_protocols(self) -> str:
        """Why no flow was looked into."""
        if self.findings.labels:
            return ""
        if not self.findings.packets:
            return f"the capture holds no packet ({self.findings.ending})"
        if not self.readable:
            reasons = ", ".join(f"{reason}: {count}" for reason, count in self.findings.unreadable.most_common(3))
            return f"none of the {self.findings.packets} packets could be read ({reasons})"
        if self.outcomes["fragment"] == self.readable:
            return "all packets are IP fragments, which are counted and not looked into"
        if self.outcomes["ignored"] + self.outcomes["fragment"] == self.readable:
            return "no rule of sniff takes any of the flows"
        return "no flow sent a record to the engine"

    @property
    def why_no_alerts(self) -> str:
        """Why no rule matched."""
        if self.findings.alerts:
            return ""
        loaded, refused = self.circumstances.signatures, self.circumstances.refused
        if refused and not loaded:
            return f"all {refused} signatures were refused: sluicegate rules failed -f FILE says why"
        if not loaded:
            return "no signatures and no actions matched: give rules in spec.signatures of a DpiSniffer, with -f"
        if not self.findings.labels:
            return f"{loaded} signatures were loaded, but {self.why_no_protocols}"
        return f"none of the {loaded} loaded signatures matched what went up"

    @property
    def losses(self) -> dict[str, int]:
        """What was lost on the way, by where; empty when nothing was."""
        engine = self.stats["engine"]
        sniffing = self.stats["sniffing"]
        found = {
            "records that found no room in the ring": self.outcomes["lost"],
            "records that the engine refused": sum(engine.get(name, 0) for name in ("bad_entry", "bad_packet")),
            "records of another protocol than their flow": engine.get("other_protocol", 0),
            "flows that made room for others": sniffing["flows_evicted"] + engine.get("evicted", 0),
            "flows given up for memory": engine.get("gave_up_memory", 0),
            "texts that found no room in a batch": engine.get("text_dropped", 0),
            "pattern matches not remembered": engine.get("hits_dropped", 0),
            "events that could not be written": self.output_lost,
        }
        return {what: count for what, count in found.items() if count}

    def document(self) -> Json:
        """Plain data for JSON."""
        findings, given = self.findings, self.circumstances
        labels = sorted(findings.labels.items(), key=lambda item: (-item[1].packets, item[0]))
        return {
            "file": given.file,
            "vnf": given.vnf,
            "node": given.node,
            "ending": {
                "whole": findings.ending.whole,
                "reason": findings.ending.reason,
                "offset": findings.ending.offset,
            },
            "packets": findings.packets,
            "bytes": findings.octets,
            "seconds": self.seconds,
            "classification": {"engine": given.classification, "reason": given.classification_reason},
            "protocols": [
                {
                    "protocol": name,
                    "flows": totals.flows,
                    "packets": totals.packets,
                    "bytes": totals.octets,
                    "sentUp": totals.records,
                }
                for name, totals in labels
            ],
            "whyNoProtocols": self.why_no_protocols,
            "alerts": [
                {"signatureId": sid, "signature": message, "alerts": count}
                for (sid, message), count in findings.alerts.most_common()
            ],
            "whyNoAlerts": self.why_no_alerts,
            "signatures": {"loaded": given.signatures, "refused": given.refused},
            "sentUp": {"packets": self.outcomes["sent"], "share": self.share_sent},
            "outcomes": dict(self.outcomes),
            "losses": self.losses,
            "unreadable": dict(findings.unreadable.most_common()),
            "events": {
                "found": findings.events.total(),
                "written": self.output_written,
                "lost": self.output_lost,
                "problem": self.output_problem,
            },
            "stats": {name: dict(group) for name, group in self.stats.items()},
        }
