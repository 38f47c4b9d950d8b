"""Builds the engine: `python -m sluicegate_agent.dpi.build_native`. Run by scripts/setup.sh; needs gcc and cffi.

cffi writes the Python side from native/engine.h, gcc compiles it together with native/*.c into `_native.abi3.so` beside
this file. No setuptools: one call of the compiler is all there is to it.
"""

import contextlib
import hashlib
import importlib
import io
import platform
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
NATIVE: Final = HERE / "native"
MODULE: Final = "sluicegate_agent.dpi._native"
OUTPUT: Final = HERE / "_native.abi3.so"
# What the module was built from; beside it, so that a second run knows that nothing is to be done.
STAMP: Final = HERE / "_native.stamp"
WARNINGS: Final = ("-Wall", "-Wextra", "-Werror")
FLAGS: Final = ("-std=gnu11", "-O2", "-g", "-fPIC", "-fvisibility=hidden", "-D_GNU_SOURCE")
LIBRARIES: Final = ("-lhs", "-ldl")


def declarations() -> str:
    """engine.h without its preprocessor lines: what cffi reads."""
    lines = (NATIVE / "engine.h").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))


def sources() -> list[Path]:
    """The C files of the engine."""
    return sorted(NATIVE.glob("*.c"))


def digest() -> str:
    """Of everything the module is made from."""
    state = hashlib.sha256(f"{platform.python_implementation()} {platform.machine()} {FLAGS} {LIBRARIES}".encode())
    for path in [Path(__file__), *sorted(NATIVE.glob("*.h")), *sources()]:
        state.update(path.read_bytes())
    return state.hexdigest()


def build(output: Path = OUTPUT, extra: tuple[str, ...] = ()) -> None:
    """Compile the module to `output`; raises CalledProcessError with the compiler's words on stderr."""
    # Needed here only, and absent where nothing is built.
    ffi = importlib.import_module("cffi").FFI()
    ffi.cdef(declarations())
    ffi.set_source(MODULE, '#include "engine.h"\n')
    glue = output.with_suffix(".c")
    with contextlib.redirect_stdout(io.StringIO()):  # it names the file it writes
        ffi.emit_c_code(str(glue))
    objects: list[Path] = []
    try:
        for source in [*sources(), glue]:
            target = output.with_name(f"{source.stem}.{output.stem}.o")
            objects.append(target)
            # The glue is cffi's: our warnings are for our own code.
            own = WARNINGS if source != glue else (f"-I{sysconfig.get_path('include')}",)
            subprocess.run(
                ["gcc", *FLAGS, *own, *extra, f"-I{NATIVE}", "-c", str(source), "-o", str(target)], check=True
            )
        # Under another name first: a module that is in use is replaced, never written into.
        fresh = output.with_name(f"{output.name}.new")
        subprocess.run(["gcc", "-shared", *extra, *map(str, objects), *LIBRARIES, "-o", str(fresh)], check=True)
        fresh.replace(output)
    finally:
        for path in [*objects, glue]:
            path.unlink(missing_ok=True)


def main() -> int:
    """Build unless what is there is up to date."""
    wanted = digest()
    if OUTPUT.exists() and STAMP.exists() and STAMP.read_text(encoding="utf-8") == wanted:
        return 0
    STAMP.unlink(missing_ok=True)
    try:
        build()
    except (ImportError, FileNotFoundError, subprocess.CalledProcessError) as error:
        print(f"the sniffer's engine was not built: {error}", file=sys.stderr)
        print("it needs gcc, python3-dev and libvectorscan-dev, and cffi: run scripts/setup.sh", file=sys.stderr)
        return 1
    STAMP.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
