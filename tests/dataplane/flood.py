"""Many clients at once, without dissecting packets: what tests of port allocation and of selection need."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench import TC_REDIRECT, XDP_REDIRECT, Bench, Hook
from frames import locate, request, with_client_port
from sluicegate_agent.datapath.model import Protocol


@dataclass(frozen=True, slots=True)
class Opened:
    """What the backend sees of a client's first packet; ``nat_port`` is 0 when it was not forwarded."""

    client_port: int
    nat_port: int
    backend: bytes


def open_flows(
    bench: Bench, hook: Hook, family: int, protocol: Protocol, ports: Iterable[int], *, cpu: int | None = None
) -> list[Opened]:
    """Send the first packet of flows from these ports of one client."""
    template = request(family, protocol)
    place = locate(template)
    address = (
        slice(place.network + 16, place.network + 20) if family == 4 else slice(place.network + 24, place.network + 40)
    )
    opened = []
    for port in ports:
        run = bench.run(hook, with_client_port(template, port), cpu=cpu)
        forwarded = run.retval in {XDP_REDIRECT, TC_REDIRECT}
        nat_port = int.from_bytes(run.data[place.transport : place.transport + 2]) if forwarded else 0
        opened.append(Opened(port, nat_port, run.data[address] if forwarded else b""))
    return opened


def open_on_two_cpus(
    bench: Bench, hooks: tuple[Hook, Hook], family: int, protocol: Protocol, ports: tuple[Sequence[int], Sequence[int]]
) -> list[Opened]:
    """Two threads, each on a CPU of its own, send at the same time."""
    start = threading.Barrier(2)
    results: list[list[Opened]] = [[], []]

    def work(index: int) -> None:
        start.wait(timeout=10)
        results[index] = open_flows(bench, hooks[index], family, protocol, ports[index], cpu=index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return results[0] + results[1]
