#!/usr/bin/env python3
"""Tells a load balancer on TCP port 9707 how much this server can take, in HAProxy's agent-check grammar.

The server calls ``METER.served()`` once per request. The answer is the rate at which it would be full, requests per
second over utilisation, as a share of what it takes on a good day. Not its idle CPU: that is large on a server to which
few requests are sent, whatever it could do with more.
"""

import asyncio
import os
import time

NOMINAL = 500.0  # requests per second that this server takes when nothing is wrong with it
CPUS = os.cpu_count() or 1


class Meter:
    """Requests and CPU time of this process, smoothed over some seconds."""

    def __init__(self) -> None:
        self.requests = 0
        self.rate = self.utilization = 0.0
        self.share = 1.0

    def served(self) -> None:
        """One more request was answered."""
        self.requests += 1

    def tick(self, seconds: float, requests: int, cpu_seconds: float) -> None:
        """Take what came in so many seconds into account."""
        self.rate += 0.3 * (requests / seconds - self.rate)
        self.utilization += 0.3 * (cpu_seconds / (seconds * CPUS) - self.utilization)
        if self.rate >= 1 and self.utilization >= 0.05:  # with less to do the quotient is noise
            self.share = min(max(self.rate / self.utilization / NOMINAL, 0.05), 2.0)

    def line(self) -> str:
        """The answer to the load balancer."""
        return f"{self.share:.0%} # {self.rate:.0f}/s, {self.utilization:.0%} used\n"


METER = Meter()


async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One line, and the end."""
    writer.write(METER.line().encode())
    writer.close()


async def measure() -> None:
    """A look every second."""
    then, requests, cpu = time.monotonic(), METER.requests, time.process_time()
    while True:
        await asyncio.sleep(1)
        before = then, requests, cpu
        then, requests, cpu = time.monotonic(), METER.requests, time.process_time()
        METER.tick(then - before[0], requests - before[1], cpu - before[2])


async def main(port: int = 9707) -> None:
    """Answer until cancelled."""
    async with await asyncio.start_server(answer, port=port):
        await measure()


if __name__ == "__main__":
    asyncio.run(main())
