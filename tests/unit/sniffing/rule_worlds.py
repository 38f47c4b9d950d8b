"""Random sniff rules and flows near their borders, and the kernel's way to match them, written down in Python."""

from __future__ import annotations

from ipaddress import ip_network

from hypothesis import strategies as st

from sluicegate_agent.dpi.sniffing.rules import Side, SniffRule
from sluicegate_agent.sniffing.rulesets import PROTOCOLS, CompiledRules, NetPrefix, PortPrefix, RuleSide

Flow = tuple[int, bytes, int, bytes, int]
"""Protocol, source and its port, destination and its port."""


def match(rules: CompiledRules, flow: Flow) -> tuple[int | None, bool]:
    """The rule that takes a flow, and whether it excludes it: sniff_match() of bpf/sniff_rules.h."""
    protocol, source, source_port, destination, destination_port = flow
    word = rules.protocols[PROTOCOLS.index(protocol) if protocol in PROTOCOLS else len(PROTOCOLS)]
    for side, address, port in (
        (RuleSide.SOURCE, source, source_port),
        (RuleSide.DESTINATION, destination, destination_port),
    ):
        word &= _by_net(rules, side, address) & _by_port(rules, side, port)
    if not word:
        return None, False
    index = (word & -word).bit_length() - 1
    return index, bool(rules.ignored >> index & 1)


def _by_net(rules: CompiledRules, side: RuleSide, packed: bytes) -> int:
    bits, address = len(packed) * 8, int.from_bytes(packed)
    family = 4 if bits == 32 else 6
    for length in range(bits, -1, -1):
        first = address >> (bits - length) << (bits - length)
        found = rules.nets.get(NetPrefix(family, side, first, length))
        if found is not None:
            return found
    raise AssertionError("there is no default")


def _by_port(rules: CompiledRules, side: RuleSide, port: int) -> int:
    for length in range(16, -1, -1):
        found = rules.ports.get(PortPrefix(side, port >> (16 - length) << (16 - length), length))
        if found is not None:
            return found
    raise AssertionError("there is no default")


# Few bits vary, so that networks contain each other and flows fall into them.
_v4 = st.tuples(st.integers(0, 15), st.sampled_from([0, 8, 24, 26, 28, 30, 31, 32])).map(
    lambda pair: ip_network((0x0A000010 + pair[0], pair[1]), strict=False)
)
_v6 = st.tuples(st.integers(0, 15), st.sampled_from([0, 16, 64, 124, 126, 127, 128])).map(
    lambda pair: ip_network(((0x20010DB8 << 96) + pair[0], pair[1]), strict=False)
)
_port = st.one_of(st.integers(0, 40), st.sampled_from([80, 443, 1023, 1024, 32767, 32768, 65534, 65535]))
_ranges = st.tuples(_port, _port).map(lambda pair: (min(pair), max(pair)))
sides = st.builds(
    Side,
    networks=st.lists(st.one_of(_v4, _v6), max_size=4).map(tuple),
    ports=st.lists(_ranges, max_size=4).map(tuple),
)
rules = st.builds(
    SniffRule,
    name=st.just("rule"),
    protocols=st.frozensets(st.sampled_from(PROTOCOLS), max_size=3),
    source=sides,
    destination=sides,
    ignore=st.booleans(),
)
rule_lists = st.lists(rules, max_size=8)
_addresses = {
    4: st.one_of(st.integers(0x0A000008, 0x0A000028), st.integers(0, 2**32 - 1)).map(lambda value: value.to_bytes(4)),
    6: st.one_of(st.integers(0, 40).map(lambda low: (0x20010DB8 << 96) + low), st.integers(0, 2**128 - 1)).map(
        lambda value: value.to_bytes(16)
    ),
}
flows = st.sampled_from([4, 6]).flatmap(
    lambda family: st.tuples(st.sampled_from([*PROTOCOLS, 47]), _addresses[family], _port, _addresses[family], _port)
)
