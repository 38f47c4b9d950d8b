"""What a worker can no longer do. Each attempt is a process of its own, because there is no way back."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(platform.machine() not in {"x86_64", "aarch64"}, reason="no list of system calls")


def attempt(code: str) -> subprocess.CompletedProcess[str]:
    """Code after the sandbox has closed; what it prints, and how it ends."""
    program = f"""
import ctypes, mmap, os, resource, signal, socket, threading, time
from sluicegate_agent.dpi.live import sandbox
libc = ctypes.CDLL(None, use_errno=True)
page = mmap.mmap(-1, 4096)
inherited = os.open("/dev/null", os.O_RDWR)
problems = sandbox.enter(os.getppid())
def refused(call):
    try:
        call()
    except OSError as error:
        print(error.strerror, flush=True)
    else:
        print("allowed", flush=True)
{textwrap.dedent(code)}
os._exit(0)
"""
    return run(program)


def run(program: str) -> subprocess.CompletedProcess[str]:
    """A program in Python."""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    "call",
    [
        "open('/etc/hostname')",
        "os.listdir('/')",
        "os.fork()",
        "mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)",
        "os.kill(os.getppid(), 0)",
        "os.setuid(0)",
        "os.unlink('/nowhere')",
    ],
)
def test_what_is_not_needed_is_refused(call: str) -> None:
    done = attempt(f"refused(lambda: {call})")
    assert (done.returncode, done.stdout.strip()) == (0, "Operation not permitted"), done.stderr


@pytest.mark.parametrize("call", ["socket.socket()", "os.execv('/bin/true', ['true'])", "libc.ptrace(0, 0, 0, 0)"])
def test_first_steps_of_an_exploit_are_fatal(call: str) -> None:
    assert attempt(call).returncode == -signal.SIGSYS


def test_what_the_work_needs_goes_on() -> None:
    done = attempt(
        """
        memory = bytearray(64 << 20)
        thread = threading.Thread(target=time.sleep, args=(0.001,))
        thread.start()
        thread.join()
        os.write(inherited, b"x")
        print(resource.getrlimit(resource.RLIMIT_FSIZE), *problems, flush=True)
        """
    )
    missing = "" if os.geteuid() == 0 else f" it cannot become nobody (it runs as user {os.geteuid()}, not as root)"
    assert done.stdout == f"(0, 0){missing}\n", done


def test_memory_has_an_end() -> None:
    done = attempt(
        """
        try:
            memory = bytearray(5 << 30)
        except MemoryError:
            print("bounded", flush=True)
        """
    )
    assert done.stdout == "bounded\n", done


def test_an_abort_is_an_abort() -> None:
    assert attempt("os.abort()").returncode == -signal.SIGABRT


def test_a_process_whose_parent_is_gone_does_not_begin() -> None:
    program = "from sluicegate_agent.dpi.live import sandbox; sandbox.enter(1)"
    done = run(program)
    assert "ProcessLookupError" in done.stderr
