"""65,536 flows, and their entries in the tables: what is known before a packet of them comes.

Flow i is of client i / 4096, from port 10000 + i mod 4096, and goes to backend i / 4096 under FullNAT port
1024 + i mod 4096. So the feeder can make its packets from i alone. Entries are written in random order: the places that
neighbours in i get in memory have nothing to do with each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

import numpy as np
import numpy.typing as npt

from sluicegate_agent.datapath.model import BackendId, FrontendId, IPAddress
from sluicegate_agent.datapath.tables import KernelTable, KernelTables
from sluicegate_agent.kernel.clock import jiffies

COUNT = 65536
LOW_BITS = 12
PEERS = COUNT >> LOW_BITS
CLIENT_PORT = 10000
NAT_PORT = 1024
ACKNOWLEDGED = 2000
"""In every TCP packet, and in its flow's entry: data that acknowledges no more than that is no new request."""

ESTABLISHED, ANSWERED, SPOKEN = 1, 2, 128  # enum flow_state of bpf/types.h

_GENERATION = 1

Words = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Service:
    """What flows of one frontend refer to. ``first_*`` are addresses of the first of PEERS; ``source`` is FullNAT's."""

    frontend: FrontendId
    protocol: int
    first_client: IPAddress
    vip: IPAddress
    backends: tuple[BackendId, ...]
    first_backend: IPAddress
    backend_port: int
    source: IPAddress | None


def known(service: Service, tables: KernelTables) -> tuple[tuple[KernelTable, bytes, bytes], ...]:
    """Rows of `flows`, and of `nat` in FullNAT, for all flows in a random order: table, keys, values."""
    number = np.random.default_rng(1).permutation(COUNT).astype(np.uint32)
    low, high = number & ((1 << LOW_BITS) - 1), number >> LOW_BITS
    family = service.vip.version
    state = ESTABLISHED | ANSWERED | SPOKEN
    client_port, nat_port = network_order(CLIENT_PORT + low), network_order(NAT_PORT + low)
    backend = np.array(service.backends, np.uint32)[high]
    now = jiffies()

    flows = tables.by_family("flows", family)
    keys, values = np.zeros(COUNT, flows.key), np.zeros(COUNT, flows.value)
    _fill_address(keys, "client", service.first_client, high)
    keys["client_port"], keys["frontend"] = client_port, service.frontend
    values["state"], values["backend"], values["backend_generation"] = state, backend, _GENERATION
    values["last_seen"] = values["synced"] = now
    values["request_ack"] = ACKNOWLEDGED
    if service.source is None:
        return ((flows, keys.tobytes(), values.tobytes()),)
    values["nat_port"] = nat_port
    values["source"] = words(service.source)

    nat = tables.by_family("nat", family)
    nat_keys, nat_values = np.zeros(COUNT, nat.key), np.zeros(COUNT, nat.value)
    _fill_address(nat_keys, "backend", service.first_backend, high)
    _fill_address(nat_keys, "source", service.source, np.zeros_like(high))
    nat_keys["backend_port"] = service.backend_port.to_bytes(2, "big")[0] | (service.backend_port & 255) << 8
    nat_keys["source_port"], nat_keys["protocol"] = nat_port, service.protocol
    nat_values["state"], nat_values["frontend"], nat_values["backend"] = state, service.frontend, backend
    _fill_address(nat_values, "client", service.first_client, high)
    nat_values["client_port"], nat_values["backend_generation"] = client_port, _GENERATION
    nat_values["last_seen"] = now
    return (flows, keys.tobytes(), values.tobytes()), (nat, nat_keys.tobytes(), nat_values.tobytes())


def known_to_floor(service: Service, table: KernelTable, vip_port: int) -> tuple[bytes, bytes]:
    """The same flows as keys and values of a table by the packet's own tuple."""
    number = np.random.default_rng(2).permutation(COUNT).astype(np.uint32)
    low, high = number & ((1 << LOW_BITS) - 1), number >> LOW_BITS
    keys = np.zeros(COUNT, table.key)
    _fill_address(keys, "source", service.first_client, high)
    _fill_address(keys, "destination", service.vip, np.zeros_like(high))
    keys["source_port"] = network_order(CLIENT_PORT + low)
    keys["destination_port"] = network_order(np.array([vip_port], np.uint32))[0]
    keys["protocol"] = service.protocol
    return keys.tobytes(), np.ones(COUNT, np.uint64).tobytes()


def words(address: IPAddress) -> tuple[int, int, int, int]:
    """As the tables keep an address: 16 bytes as in a packet, IPv4 in the first four."""
    packed = address.packed.ljust(16, b"\0")
    first, second, third, fourth = (int.from_bytes(packed[at : at + 4], "little") for at in range(0, 16, 4))
    return first, second, third, fourth


def network_order(ports: Words) -> npt.NDArray[np.uint16]:
    """Ports as they lie in a packet."""
    return ports.astype(">u2").view("<u2")


def _fill_address(rows: npt.NDArray[np.void], member: str, first: IPAddress, plus: Words) -> None:
    """Addresses ``first + plus`` into a member of one word (IPv4 in keys) or four."""
    last = int(first) & 0xFFFFFFFF
    varying = (last + plus).astype(">u4").view("<u4")
    column = rows[member]
    if column.ndim == 1:
        column[:] = varying
        return
    column[:] = words(first)
    column[:, 0 if first.version == 4 else 3] = varying


def peers(first: str) -> list[IPAddress]:
    """The PEERS addresses from this one on."""
    return [ip_address(first) + number for number in range(PEERS)]
