"""A certificate for the lab's TLS servers, signed by itself; clients of the lab trust nothing else."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

from sluicegate_agent.lab.namespace import run

_DAYS = "2"
_ALPN = ["http/1.1"]  # as browsers say it


def make_certificate(directory: Path, names: Sequence[str]) -> Path:
    """Write key and certificate for these DNS names into one PEM file in ``directory``, and give its path.

    Raises:
        LabError: openssl is not installed or refuses.
    """
    path = directory / "server.pem"
    path.touch(mode=0o600)
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]
    who = ["-subj", f"/CN={names[0]}", "-addext", "subjectAltName=" + ",".join(f"DNS:{name}" for name in names)]
    run(["openssl", "req", "-x509", *curve, "-days", _DAYS, *who, "-keyout", str(path), "-out", str(path) + ".crt"])
    certificate = Path(str(path) + ".crt")
    with path.open("a") as whole:
        whole.write(certificate.read_text())
    certificate.unlink()
    return path


def server_context(certificate: Path) -> ssl.SSLContext:
    """For a server with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.set_alpn_protocols(_ALPN)
    return context


def client_context(certificate: Path) -> ssl.SSLContext:
    """For a client that trusts this certificate alone: what it reads came unchanged from who has the key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificate)
    context.set_alpn_protocols(_ALPN)
    return context
