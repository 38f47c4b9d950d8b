"""A few single requests, each from a new socket, run inside the client's namespace as ``python -m``.

Prints a JSON list with one answer per request; an exchange that failed is ``"!"`` and the kind of failure.
"""

from __future__ import annotations

import argparse
import json
import socket

from sluicegate_agent.lab.wire import failure_kind, parse_target


def tcp(target: tuple[str, int], path: str, seconds: float) -> str:
    """Ask for ``path`` on a new connection and give the body."""
    with socket.create_connection(target, timeout=seconds) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n".encode())
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer.partition(b"\r\n\r\n")[2].decode()


def udp(target: tuple[str, int], payload: bytes, seconds: float) -> str:
    """Send one datagram, never a second one, and give the answer."""
    family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as connection:
        connection.settimeout(seconds)
        connection.connect(target)
        connection.send(payload)
        return connection.recv(65536).decode()


def main() -> None:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(description="single requests for the lab")
    parser.add_argument("protocol", choices=["tcp", "udp"])
    parser.add_argument("target", type=parse_target)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--path", default="/client")
    parser.add_argument("--timeout", type=float, default=3.0)
    options = parser.parse_args()
    answers = []
    for number in range(options.count):
        try:
            if options.protocol == "tcp":
                answers.append(tcp(options.target, options.path, options.timeout))
            else:
                answers.append(udp(options.target, str(number).encode(), options.timeout))
        except OSError as error:
            answers.append(f"!{failure_kind(error)}")
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
