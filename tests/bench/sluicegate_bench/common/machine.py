"""The machine, as far as it bears on results; nothing that would tell whose it is."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

_VULNERABILITIES = Path("/sys/devices/system/cpu/vulnerabilities")


@dataclass(frozen=True, slots=True)
class Machine:
    """One line each, as people read them."""

    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    virtual: bool
    mitigations: str
    load_before: float
    """Processes that ran or waited for a CPU, on average over the minute before: what else was going on."""

    def sentence(self) -> str:
        """All of it."""
        kind = "virtual machine" if self.virtual else "machine"
        return (
            f"{kind} with {self.cores} cores ({self.cpu}), {self.memory_gib:.0f} GiB, Linux {self.kernel}; "
            f"Spectre v2: {self.mitigations}; load before the run {self.load_before:.1f}"
        )


def describe() -> Machine:
    """This machine now."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    meminfo = Path("/proc/meminfo").read_text(encoding="utf-8")
    total = re.search(r"MemTotal:\s+(\d+) kB", meminfo)
    return Machine(
        cpu=_cpu(cpuinfo),
        cores=os.cpu_count() or 1,
        memory_gib=round(int(total[1]) / 2**20, 1) if total else 0.0,
        kernel=".".join(re.findall(r"\d+", platform.release())[:3]),
        virtual=re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, re.MULTILINE) is not None,
        mitigations=_mitigation(),
        load_before=os.getloadavg()[0],
    )


def _cpu(cpuinfo: str) -> str:
    found = {
        name: match[1].strip()
        for name in ("model name", "cpu family", "model")
        if (match := re.search(rf"^{name}\s*:(.*)$", cpuinfo, re.MULTILINE))
    }
    name = found.get("model name", platform.machine())
    return f"{name}, family {found['cpu family']}, model {found['model']}" if "cpu family" in found else name


def _mitigation() -> str:
    try:
        text = (_VULNERABILITIES / "spectre_v2").read_text(encoding="utf-8")
    except OSError:
        return "unknown"
    return text.strip().removeprefix("Mitigation: ").split(";")[0]
