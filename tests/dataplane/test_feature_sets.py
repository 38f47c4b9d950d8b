"""Every set of features that a configuration can ask for compiles without a warning and passes the verifier."""

from __future__ import annotations

import secrets
from itertools import product
from pathlib import Path

import pytest

from sluicegate_agent.kernel import bpffs
from sluicegate_agent.loader.client import load
from sluicegate_agent.loader.request import LoadRequest, bpf_sources

pytestmark = pytest.mark.kernel

FAMILIES = ("IPV4", "IPV6")
MODES = ("FULL_NAT", "DNAT", "DIRECT_RETURN")
SETS = [
    families + modes + sniff
    for families in (("IPV4",), ("IPV6",), FAMILIES)
    for sniff in ((), ("SNIFF",))
    for modes in (
        tuple(name for name, on in zip(MODES, switches, strict=True) if on) for switches in product((0, 1), repeat=3)
    )
    if modes or sniff
]
# The smallest sets of each kind are loaded in every run: what is left out is what a missing #if breaks first. And the
# sniffer alone, in one family, and with all that there is: the heaviest.
ALWAYS = {
    ("IPV4", "FULL_NAT"),
    ("IPV6", "DNAT"),
    (*FAMILIES, "DIRECT_RETURN"),
    ("IPV4", "SNIFF"),
    ("IPV6", "SNIFF"),
    (*FAMILIES, *MODES, "SNIFF"),
}
# Far below the kernel's million: another kernel's verifier prunes less.
VERIFIED_AT_MOST = 500_000


@pytest.mark.parametrize(
    "features",
    [pytest.param(names, marks=() if names in ALWAYS else pytest.mark.slow, id="+".join(names)) for names in SETS],
)
@pytest.mark.parametrize("virtual_devices", [True, False])
def test_a_feature_set_loads(features: tuple[str, ...], virtual_devices: bool) -> None:
    bpffs.mount_if_missing()
    pins = Path("/sys/fs/bpf", f"sgt-{secrets.token_hex(4)}")
    wanted = {name: name in features for name in (*FAMILIES, *MODES, "SNIFF")} | {"PARTIAL_CHECKSUMS": virtual_devices}
    try:
        manifest = load(
            LoadRequest(bpf_sources(), pins, sizes={"FLOWS": 1024, "NATS": 1024}, features=wanted),
            progress=lambda _: None,
        )
    finally:
        if pins.exists():
            bpffs.remove_tree(pins)

    heaviest = max(manifest.programs.items(), key=lambda item: item[1].verified_instructions)
    assert heaviest[1].verified_instructions <= VERIFIED_AT_MOST, heaviest
