"""Suricata on the same capture with the same rules, where it is installed."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

INSTALL = "apt-get install -t bookworm-backports suricata"
"""Debian 12 has it in its backports only, where it wants libhyperscan5, which Debian keeps apart from libvectorscan5:
where that is installed, unpack its packages somewhere (dpkg -x), and put a wrapper with LD_LIBRARY_PATH into PATH."""

_START_SECONDS = 60.0
_HEAD, _RECORD = 24, 16
"""Bytes of a capture's head, and of what is before each packet: its captured length is the third of four words."""


@dataclass(frozen=True, slots=True)
class Suricata:
    """The program, and what it calls itself."""

    program: str
    version: str

    def seconds(self, capture: Path, rules: Path) -> float:
        """CPU seconds of all its threads for the capture, start-up taken off."""
        with tempfile.TemporaryDirectory(prefix="sgb-") as directory:
            here = Path(directory)
            first = here / "first.pcap"
            with capture.open("rb") as file:
                start = file.read(_HEAD + _RECORD)
                (length,) = struct.unpack_from("<I", start, _HEAD + 8)
                first.write_bytes(start + file.read(length))  # none at all is an error for it
            return self._spent(capture, rules, here / "full") - self._spent(first, rules, here / "start")

    def _spent(self, capture: Path, rules: Path, directory: Path) -> float:
        directory.mkdir()
        settings = directory / "suricata.yaml"
        settings.write_text("%YAML 1.1\n---\n" + yaml.safe_dump(_settings()), encoding="utf-8")
        command = [self.program, "-c", str(settings), "-r", str(capture), "-l", str(directory), "-S", str(rules)]
        command += ["--runmode", "single", "-k", "none"]
        with (directory / "said").open("w+", encoding="utf-8") as said:
            process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                said.seek(0)
                raise RuntimeError(f"suricata ended with {process.returncode}: {said.read()[-2000:]}")
        return usage.ru_utime + usage.ru_stime


def find() -> Suricata | None:
    """None when it is not installed."""
    program = shutil.which("suricata")
    if program is None:
        return None
    said = subprocess.run([program, "-V"], capture_output=True, text=True, timeout=_START_SECONDS, check=False).stdout
    return Suricata(program, said.strip().removeprefix("This is ") or "Suricata")


def _settings() -> dict[str, object]:
    """Its defaults, and of events the types that ours writes too."""
    kinds = ["alert", "http", "dns", "tls", "flow", "anomaly"]
    return {
        "vars": {"address-groups": {"HOME_NET": "any", "EXTERNAL_NET": "any"}, "port-groups": {}},
        "outputs": [{"eve-log": {"enabled": True, "filetype": "regular", "filename": "eve.json", "types": kinds}}],
        "app-layer": {
            "protocols": {
                "tls": {"enabled": True, "detection-ports": {"dp": 443}},
                "http": {"enabled": True},
                "dns": {
                    "udp": {"enabled": True, "detection-ports": {"dp": 53}},
                    "tcp": {"enabled": True, "detection-ports": {"dp": 53}},
                },
                "ssh": {"enabled": True},
                "smtp": {"enabled": True},
                "quic": {"enabled": True},
                "ntp": {"enabled": True},
            }
        },
    }
