"""The HTTP endpoint that Prometheus asks."""

from __future__ import annotations

import errno
import logging
import socket
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, islice
from socketserver import TCPServer
from threading import Lock, Thread
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest

from sluicegate_agent.failure import StartError
from sluicegate_agent.reports.metrics.exposition import exposition
from sluicegate_agent.reports.metrics.sample import Sample
from sluicegate_agent.settings import ListenAddress

log = logging.getLogger(__name__)

PATH: Final = "/metrics"
_LINES: Final = 1000
"""In one piece."""
_GZIP: Final = 31
"""zlib's number for the format of gzip with the largest window."""


class MetricsServer:
    """Serves the metrics over HTTP from threads of its own, until closed.

    ``most_backends`` have series of their own. Raises StartError when the address cannot be bound.
    """

    def __init__(self, address: ListenAddress, sample: Callable[[], Sample], most_backends: int) -> None:
        scrape = _Scrape(sample, most_backends)
        try:
            self._server = _Server(address, scrape)
        except OSError as error:
            raise StartError(
                f"cannot serve metrics on {address}: {error.strerror or error}",
                f"find who listens there with: ss -ltnp 'sport = {address.port}', or choose another with --metrics ADDR"
                if error.errno == errno.EADDRINUSE
                else "give an address of this namespace with --metrics ADDR",
            ) from error
        self._thread = Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that was bound."""
        return self._server.server_port

    def close(self) -> None:
        """Stop serving and give the port back."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Scrape:
    """Makes the text, for one client at a time: two at once would only slow down one another and the agent.

    It comes in pieces, compressed as it is made if the client takes that: so only that is held in memory.
    """

    def __init__(self, sample: Callable[[], Sample], most_backends: int) -> None:
        self._sample = sample
        self._most_backends = most_backends
        self._one_at_a_time = Lock()
        self._process = CollectorRegistry()
        for standard in (ProcessCollector, PlatformCollector, GCCollector):
            standard(registry=self._process)

    def __call__(self, *, compressed: bool) -> list[bytes]:
        with self._one_at_a_time:
            sample = replace(self._sample(), most_backends=self._most_backends)
            text = chain(_pieces(exposition(sample)), [generate_latest(self._process)])
            return list(_compressed(text) if compressed else text)


def _pieces(lines: Iterator[str]) -> Iterator[bytes]:
    while piece := "".join(islice(lines, _LINES)):
        yield piece.encode()


def _compressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    gzip = zlib.compressobj(zlib.Z_BEST_SPEED, wbits=_GZIP)
    yield from (each for piece in pieces if (each := gzip.compress(piece)))
    yield gzip.flush()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: ListenAddress, scrape: _Scrape) -> None:
        self.address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        super().__init__((address.host, address.port), partial(_Handler, scrape))

    def server_bind(self) -> None:
        """Without the library's question to the name service, which may take its time when there is none."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]


class _Handler(BaseHTTPRequestHandler):
    timeout = 10.0  # seconds for a client that stops reading or sending

    def __init__(self, scrape: _Scrape, *arguments: object) -> None:
        self._scrape = scrape
        super().__init__(*arguments)  # type: ignore[arg-type]  # socketserver's own

    def do_GET(self) -> None:
        """Answer a scrape. The text is complete before its first byte is sent: half of one would pass for a whole."""
        if self.path.partition("?")[0] != PATH:
            self._answer(HTTPStatus.NOT_FOUND, [f"the metrics are on {PATH}\n".encode()])
            return
        compressed = "gzip" in self.headers.get("Accept-Encoding", "")
        try:
            text = self._scrape(compressed=compressed)
        except Exception:
            log.exception("a scrape broke")
            words = b"the metrics cannot be made: an error of the agent, see its log\n"
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, [words])
            return
        self._answer(HTTPStatus.OK, text, version="; version=0.0.4", compressed=compressed)

    def _answer(
        self, status: HTTPStatus, body: Sequence[bytes], *, version: str = "", compressed: bool = False
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"text/plain{version}; charset=utf-8")
        if compressed:
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(sum(map(len, body))))
        self.end_headers()
        for piece in body:
            self.wfile.write(piece)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # the name is the library's
        """No line for each scrape."""
