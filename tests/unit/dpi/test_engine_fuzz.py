"""Rings of any content against the engine, under sanitizers: ten seconds here, SLUICEGATE_FUZZ_SECONDS elsewhere."""

import hashlib
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from engine_rig import Rig, Talk, client_hello, datagram, ndpi, request
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.packet import Raw

from sluicegate_agent.dpi import build_native
from sluicegate_agent.dpi.engine import available

pytestmark = [
    pytest.mark.skipif(available() is not None, reason=str(available())),
    pytest.mark.timeout(0),
]

ROOT = Path(__file__).parents[3]
HARNESS = ROOT / "tests/fuzz/dpi_ring.c"
CLANGS = ("clang", *(f"clang-{version}" for version in range(21, 13, -1)))
SECONDS = int(os.environ.get("SLUICEGATE_FUZZ_SECONDS", "10"))
SANITIZERS = "address,undefined"


def compile_with(compiler: str, options: list[str], output: Path) -> bool:
    command = [compiler, "-std=gnu11", "-O1", "-g", "-D_GNU_SOURCE", *options, "-fno-sanitize-recover=undefined"]
    command += [f"-I{build_native.NATIVE}", str(HARNESS), *map(str, build_native.sources()), "-lhs", "-ldl"]
    # nDPI's shared object is a Python extension: it is not loaded without the interpreter's symbols.
    command += ["-Wl,--no-as-needed", f"-lpython{sys.version_info.major}.{sys.version_info.minor}"]
    done = subprocess.run([*command, "-o", str(output)], capture_output=True, text=True, check=False)
    if done.returncode and compiler == "gcc":
        pytest.fail(done.stderr)
    return done.returncode == 0


def harness() -> tuple[Path, bool]:
    """The program, and whether it is libFuzzer's; built once per state of its sources."""
    parts = HARNESS.read_bytes() + Path(__file__).read_bytes() + build_native.digest().encode()
    state = hashlib.sha256(parts).hexdigest()[:16]
    directory = ROOT / "build" / "fuzz"
    directory.mkdir(parents=True, exist_ok=True)
    for kind in ("libfuzzer", "plain"):
        if (directory / f"{kind}-{state}").exists():
            return directory / f"{kind}-{state}", kind == "libfuzzer"
    for old in directory.iterdir():
        old.unlink()
    fresh = directory / f"new-{os.getpid()}"
    for clang in filter(shutil.which, CLANGS):
        if compile_with(clang, [f"-fsanitize=fuzzer,{SANITIZERS}"], fresh):
            return fresh.rename(directory / f"libfuzzer-{state}"), True
    compile_with("gcc", ["-DSTANDALONE", f"-fsanitize={SANITIZERS}"], fresh)
    return fresh.rename(directory / f"plain-{state}"), False


def seeds(directory: Path) -> None:
    """Rings as the kernel would write them: what the other tests send."""

    def save(name: str, rig: Rig) -> None:
        for option in range(8):
            (directory / f"{name}-{option}").write_bytes(
                bytes([option]) + bytes(7) + rig.ring.memory[: rig.ring.produced]
            )

    with Rig() as rig:
        Talk(rig, 1).shake().say(request("/a%2fb?q=1+union+select+2")).say(
            b"HTTP/1.1 200 OK\r\n\r\nok", reverse=True
        ).bye()
        save("http", rig)
        hello = client_hello("www.example.com", 1200)
        talk = Talk(rig, 2, 443).shake().say(hello[:700]).say(hello[700:])
        save("tls", rig)
        talk.say_at(500, b"later").say_at(100, b"x" * 400).say_at(0, b"y" * 100).say_at(-50, b"z" * 60)
        save("order", rig)
    with Rig() as rig:
        question = bytes.fromhex("123401000001000000000000") + b"\x03www\x07example\x03com\0\0\x01\0\x01"
        rig.put(datagram(question, port=53), 3)
        rig.put(IPv6(src="::1", dst="::2") / UDP(sport=1, dport=53) / Raw(question), 4)
        rig.put(IPv6(src="::1", dst="::2") / IPv6ExtHdrFragment(m=1) / UDP() / Raw(b"part"), 5, l4_proto=44)
        rig.put(IP(src="192.0.2.1", dst="192.0.2.2", flags="MF") / UDP() / Raw(b"part"), 6)
        rig.put(IP(src="192.0.2.1", dst="192.0.2.2") / TCP(flags="S", options=[("MSS", 1460)]), 3)
        rig.put(IP(src="192.0.2.1", dst="192.0.2.2", proto=1) / bytes(16), 7)
        save("mixed", rig)


def test_rings_of_any_content_do_no_harm(tmp_path: Path) -> None:
    program, libfuzzer = harness()
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    seeds(corpus)
    known = ndpi()
    numbers = (
        known.flow_size,
        known.serializer_size,
        known.state_offset,
        known.confidence_offset,
        known.risk_offset,
    )
    environment = os.environ | {
        "SLUICEGATE_NDPI": ":".join([known.path, *map(str, numbers)]),
        # nDPI's own objects outlive it by design; what the engine leaves behind the harness checks itself.
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
    }
    seed = int(os.environ.get("SLUICEGATE_FUZZ_SEED") or 1 + secrets.randbelow(2**31 - 1))
    if libfuzzer:
        options = [f"-max_total_time={SECONDS}", f"-seed={seed}", "-max_len=65536", "-timeout=10", "-close_fd_mask=1"]
        command = [str(program), *options, f"-artifact_prefix={tmp_path}/", str(corpus)]
    else:
        command = [str(program), str(corpus), str(SECONDS), str(seed)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (
        f"SLUICEGATE_FUZZ_SEED={seed}, inputs in {tmp_path}:\n{done.stdout[-500:]}{done.stderr[-6000:]}"
    )
