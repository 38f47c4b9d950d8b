"""The benchmarks' own tools: emulated backends have exactly the cores they are given, and no request is forgotten."""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from sluicegate_bench.load.generator import OUTCOMES, Array, Outcome, Trace, visits
from sluicegate_bench.load.native import predict, tool

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")

CORES = (1.0, 2.0)
ADDRESSES = ("127.0.0.1", "127.0.0.2")


@contextmanager
def backends(log: Path) -> Iterator[tuple[int, Callable[[str], str]]]:
    """Two backends on the loopback; gives their port and what sends them commands."""
    with ExitStack() as stack:
        endpoint = stack.enter_context(socket.socket())
        endpoint.bind((ADDRESSES[0], 0))
        port = int(endpoint.getsockname()[1])
        endpoint.close()
        where = [f"{address}={cores:g}" for address, cores in zip(ADDRESSES, CORES, strict=True)]
        command = [str(tool("pool")), "--port", str(port), "--body", "2000", "--log", str(log), *where]
        process = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout
        assert stdout.readline() == f"ready {port}\n"

        def command_of(line: str) -> str:
            stdin.write(f"{line}\n")
            stdin.flush()
            return stdout.readline().strip()

        try:
            yield port, command_of
        finally:
            stdin.close()
            process.wait(20)


def load(tmp_path: Path, target: str, *arguments: str, trace: str = "") -> Array:
    """Run the generator to its end."""
    out = tmp_path / "results"
    # Addresses of its own: no port of theirs rests from another test.
    client = f"127.{1 + secrets.randbelow(254)}.{1 + secrets.randbelow(254)}.1,2"
    command = [str(tool("openload")), "--target", target, "--sources", client, "--results", str(out), *arguments]
    command += ["--delay", "0.02"]
    subprocess.run(command, input=trace, text=True, check=True, capture_output=True, timeout=60)
    return np.fromfile(out, dtype=OUTCOMES)


def test_a_core_is_shared_alike_and_no_job_gets_more_than_one() -> None:
    assert predict([2], ["0 0 0.02", "0 0 0.02", "0 0 0.02"]) == pytest.approx([0.03, 0.03, 0.03])
    assert predict([2], ["0 0 0.02", "0.005 0 0.02"]) == pytest.approx([0.02, 0.02])
    assert predict([1], ["0 0 0.03", "0 0 0.01"]) == pytest.approx([0.04, 0.02])


def test_a_slow_backend_takes_as_much_longer_from_then_on() -> None:
    lines = ["0 0 0.02", "0.01 0 speed 0.5", "1 0 0.02", "1 0 speed 1", "2 1 0.02"]
    assert predict([1, 1], lines) == pytest.approx([0.03, 0.02, 0.02])


def test_a_backend_at_eighty_per_cent_takes_what_theory_says() -> None:
    trace = Trace.poisson(rate=40, seconds=10_000, mean_service=0.02, seed=1)
    took = predict([1], (f"{at:.9f} 0 {service:.9f}" for at, service in zip(trace.at, trace.service, strict=True)))
    utilization = trace.service.sum() / trace.at[-1]
    assert np.mean(took) == pytest.approx(trace.service.mean() / (1 - utilization), rel=0.03)


def test_real_requests_get_exactly_the_capacity_of_their_backend(tmp_path: Path) -> None:
    trace = "".join(f"{index * 3000} {4000 + index * 100} {index % 2}\n" for index in range(60))
    log = tmp_path / "log"
    with backends(log) as (port, _):
        found = [load(tmp_path, f"{address}:{port}", "--timeout", "30", trace=trace) for address in ADDRESSES]
    for number, rows in enumerate(found):
        assert (rows["outcome"] == Outcome.ANSWERED).all()
        assert (rows["backend"] == number).all()
        seen = visits(log)
        seen = seen[seen["backend"] == number]
        assert sorted(seen["service"]) == sorted(rows["service"])
        # Each was logged when it came, so what it must take follows, however late this machine was with anything.
        lines = [f"{row['at']:.9f} {number} {row['service'] * 1e-6:.9f}" for row in seen]
        assert seen["took"] == pytest.approx(predict(CORES, lines), rel=0.02)


def test_the_load_that_backends_tell_is_theirs(tmp_path: Path) -> None:
    with backends(tmp_path / "log") as (port, _), socket.create_connection((ADDRESSES[1], port)) as endpoint:
        endpoint.sendall(b"GET /load HTTP/1.1\r\n\r\n")
        answer = endpoint.recv(4096).decode()
    assert answer.startswith("HTTP/1.1 200 OK\r\n")
    assert '"application_utilization": 0.000000' in answer


@pytest.mark.parametrize(
    ("command", "outcome"), [("hole 0", Outcome.RESET), ("hang 0", Outcome.TIMED_OUT), ("recover 0", Outcome.ANSWERED)]
)
def test_a_request_that_fails_is_counted_and_infinitely_slow(tmp_path: Path, command: str, outcome: Outcome) -> None:
    log = tmp_path / "log"
    with backends(log) as (port, tell):
        assert tell(command).startswith("ok ")
        rows = load(tmp_path, f"{ADDRESSES[0]}:{port}", "--timeout", "0.3", trace="0 1000 0\n100 1000 1\n")
    assert (rows["outcome"] == outcome).all()
    assert np.isinf(rows["latency"]).all() == (outcome is not Outcome.ANSWERED)
    assert len(visits(log)) == 2
    assert (visits(log)["reset"] == (outcome is Outcome.RESET)).all()


def test_a_refused_connection_is_counted(tmp_path: Path) -> None:
    with socket.socket() as endpoint:
        endpoint.bind((ADDRESSES[0], 0))  # taken, and nobody listens
        port = endpoint.getsockname()[1]
        rows = load(tmp_path, f"{ADDRESSES[0]}:{port}", "--timeout", "5", "--rate", "1000", "--count", "20")
    assert len(rows) == 20
    assert (rows["outcome"] == Outcome.RESET).all()


def test_a_fixed_rate_is_evenly_spaced(tmp_path: Path) -> None:
    with backends(tmp_path / "log") as (port, _):
        rows = load(tmp_path, f"{ADDRESSES[0]}:{port}", "--timeout", "20", "--rate", "500", "--count", "50")
    assert rows["planned"] == pytest.approx(np.arange(50) / 500)
    assert (rows["outcome"] == Outcome.ANSWERED).all()


@pytest.mark.parametrize("line", ["slow 0", "slow 7 2", "melt 0", "slow 0 -1"])
def test_a_command_that_makes_no_sense_is_refused(tmp_path: Path, line: str) -> None:
    with backends(tmp_path / "log") as (_, tell):
        assert tell(line).startswith("error ")


@pytest.mark.parametrize("trace", ["", "nonsense\n", "5 1 0\n4 1 0\n", "0 1 2\n", "-1 1 0\n", "999000000 1 0\n"])
def test_a_trace_that_makes_no_sense_is_refused(tmp_path: Path, trace: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        load(tmp_path, "127.0.0.1:1", "--timeout", "1", trace=trace)
    assert b"openload" in caught.value.stderr.encode()
