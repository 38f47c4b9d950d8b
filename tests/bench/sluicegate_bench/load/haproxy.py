"""HAProxy's program: the machine's own, else Debian's, unpacked by ``scripts/debian_tool.sh`` and never installed.

So no service of the package's is started, and one that already runs here is left alone.
"""

from __future__ import annotations

import os
import shutil
from functools import cache

from sluicegate_agent.lab.namespace import LabError, run
from sluicegate_bench.common.report import ROOT

_TOOLS = ROOT / ".tools"
_PACKAGES = ("haproxy", "liblua5.3-0", "libpcre2-posix3")
"""The program, and the libraries of its that a minimal Debian does not have."""


def haproxy(*arguments: str) -> list[str]:
    """The command to run it with these arguments.

    Raises:
        LabError: there is none, and its package cannot be had.
    """
    return [*_program(), *arguments]


@cache
def version() -> str:
    """As it says itself, such as "2.6.12"."""
    return run([*_program(), "-v"]).split("version ", 1)[1].split("-", 1)[0]


@cache
def _program() -> tuple[str, ...]:
    installed = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if installed:
        return (installed,)
    try:
        for package in _PACKAGES:
            run([str(ROOT / "scripts" / "debian_tool.sh"), package], seconds=180)
    except LabError as error:
        raise LabError(f"HAProxy is not installed and cannot be had: {error}") from error
    places = [path for package in _PACKAGES for path in (_TOOLS / package / "usr/lib").glob("*-linux-gnu*")]
    libraries = ":".join(str(path) for path in places)
    return ("env", f"LD_LIBRARY_PATH={libraries}", str(_TOOLS / "haproxy/usr/sbin/haproxy"))
