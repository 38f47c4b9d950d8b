"""The sniffer's maps without its programs: the tests of what user space writes play the programs' part."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import numpy as np
import pytest

from kernel_rig import pin_place
from sluicegate_agent.datapath.tables import KernelTables
from sluicegate_agent.kernel.clock import hertz, jiffies
from sluicegate_agent.kernel.libbpf import MapType
from sluicegate_agent.loader import client
from sluicegate_agent.loader.manifest import Manifest
from sluicegate_agent.loader.request import Hook, LoadRequest, Unit, bpf_sources
from sluicegate_agent.settings import load_settings

# The smallest program that the loader takes; all it is for are the maps before it.
XDP = """\
#include <uapi/linux/bpf.h>
#include "sniff_maps.h"
int xdp_main(struct xdp_md *ctx)
{
    u32 worker = 0;
    void *ring = sniff_rings.lookup(&worker);
    u64 *entry = ring ? bpf_ringbuf_reserve(ring, 128, 0) : 0;
    if (!entry)
        return XDP_DROP;
    for (u32 i = 0; i < 16; i++)
        entry[i] = i;
    bpf_ringbuf_submit(entry, 0);
    return XDP_PASS;
}
"""
UNITS = (Unit("xdp.c", Hook.XDP, ("xdp_main",)),)
FLOWS = 1024
SIZES = {"SNIFFS": FLOWS, "SNIFF_SLOTS": 2 * FLOWS, "SNIFF_PREFIXES": 512}


def write_sources(directory: Path, changes: dict[str, str] | None = None) -> Path:
    """Maps and program in a directory of their own; ``changes`` of the types' text, old by new."""
    directory.mkdir(exist_ok=True)
    for name in ("sniff_maps.h", "sniff_types.h"):
        shutil.copy(bpf_sources() / name, directory / name)
    text = (directory / "sniff_types.h").read_text()
    for old, new in (changes or {}).items():
        assert old in text
        text = text.replace(old, new)
    (directory / "sniff_types.h").write_text(text)
    (directory / "xdp.c").write_text(XDP)
    return directory


def load_maps(sources: Path, place: Path) -> Manifest:
    """Load them with small sizes."""
    request = LoadRequest(sources, place, SIZES, {}, UNITS, cache=load_settings().cache_dir)
    return client.load(request, progress=lambda _: None)


@pytest.fixture(scope="module")
def sniff_manifest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Manifest]:
    with pin_place() as place:
        yield load_maps(write_sources(tmp_path_factory.mktemp("sources")), place)


@pytest.fixture
def maps(sniff_manifest: Manifest) -> Iterator[KernelTables]:
    """Empty maps."""
    with KernelTables(sniff_manifest) as tables:
        try:
            yield tables
        finally:
            for table in tables.values():
                if table.map.info.type in {MapType.LRU_HASH, MapType.LPM_TRIE, MapType.ARRAY_OF_MAPS}:
                    for key in list(table.map.keys()):
                        table.map.delete(key)
                else:
                    keys = b"".join(index.to_bytes(4, "little") for index in range(table.capacity))
                    table.map.update_batch(keys, bytes(table.capacity * table.map.stored_size), table.capacity)


def put_flow(
    tables: KernelTables,
    client: tuple[str, int],
    server: tuple[str, int],
    *,
    flow_id: int,
    ifindex: int = 5,
    protocol: int = 6,
    idle_seconds: float = 0,
    **members: int | tuple[int, int],
) -> bytes:
    """What the programs put at a flow's first packet. Returns the key."""
    ends = [(ip_address(address), port) for address, port in (client, server)]
    order = sorted(range(2), key=lambda end: (ends[end][0].packed, ends[end][1]))
    table = tables.by_family("sniffs", ends[0][0].version)
    key = np.zeros(1, table.key)[0]
    low, high = (ends[end][0] for end in order)
    if isinstance(low, IPv6Address):
        key["low"], key["high"] = _words(low), _words(high)
    else:
        key["address"] = [_words(low)[0], _words(high)[0]]
    key["port"] = [int.from_bytes(ends[end][1].to_bytes(2), "little") for end in order]
    key["ifindex"], key["protocol"] = ifindex, protocol
    value = np.zeros(1, table.value)[0]
    value["id"] = flow_id
    value["last_seen"] = (jiffies() - round(idle_seconds * hertz())) & 0xFFFFFFFF
    value["state"], value["sniffer"], value["rule"] = 1, 1, 1023
    value["flags"] = 1 if order[0] == 1 else 0
    value["first_ns"] = 1
    for name, given in members.items():
        value[name] = value["flags"] | given if name == "flags" else given
    raw: bytes = key.tobytes()
    table.map.update(raw, value.tobytes())
    return raw


def _words(address: IPv4Address | IPv6Address) -> list[int]:
    return [int(word) for word in np.frombuffer(address.packed, "<u4")]
