"""Every reason of bpf/reasons.h is reached by a packet of some test."""

from __future__ import annotations

from pathlib import Path

from parser_cases import LATER_FRAGMENTS, PASSED
from sluicegate_agent.loader.request import bpf_sources
from sluicegate_agent.loader.sources import reasons

NEVER_REACHED = {"internal"}
"""Only a bug of ours leads there."""

REACHED = {
    "test_admission.py": {"source_denied", "rate_limited"},
    "test_checksums.py": {"partial_checksum"},
    "test_dnat.py": {"dnat_clash", "no_translation"},
    "test_flood_quota.py": {"flood"},
    "test_icmp.py": {"forwarded_error", "too_big"},
    "test_nat_life.py": {"no_flow", "no_translation"},
    "test_nat_ports.py": {"nat_ports", "nat_full"},
    "test_next_hops.py": {
        "neighbour_unresolved",
        "no_redirect",
        "reported_too_big",
        "ttl_exceeded",
        "no_route",
        "forwarding_off",
    },
    "test_local.py": {"local", "local_loop"},
    "test_ping.py": {"answered_echo"},
    "test_request_and_reply.py": {"forwarded_request", "forwarded_reply"},
    "test_selection.py": {"no_backend", "backend_gone"},
    "test_sniff_verdicts.py": {"sniff_dropped"},
}
"""Beside the table of the parser's cases: which file expects which reasons."""


def test_every_reason_has_a_test() -> None:
    declared = {reason.name.lower() for reason in reasons(bpf_sources())}
    reached = {case.reason for case in (*PASSED, *LATER_FRAGMENTS)}.union(*REACHED.values())

    assert declared - reached == NEVER_REACHED
    assert reached <= declared


def test_each_file_expects_the_reasons_that_it_is_said_to() -> None:
    for file, expected in REACHED.items():
        text = Path(__file__).with_name(file).read_text(encoding="utf-8")
        assert {reason for reason in expected if f'"{reason}"' not in text} == set(), file
