"""The loader's process: a request on stdin, progress on stderr, the manifest or an error as JSON on stdout."""

from __future__ import annotations

import json
import os
import sys

from sluicegate_agent.kernel.libbpf import KernelError
from sluicegate_agent.loader.errors import LoaderError
from sluicegate_agent.loader.install import end_with_parent, install
from sluicegate_agent.loader.request import LoadRequest


def main() -> int:
    """Exit code 0 with a manifest, 1 with ``{"message", "remedy"}``."""
    end_with_parent()
    answer = os.dup(1)
    os.dup2(2, 1)  # whatever the compiler prints is no part of the answer
    request = LoadRequest.from_json(sys.stdin.read())
    try:
        text, code = install(request, _say).to_json(), 0
    except LoaderError as error:
        text, code = json.dumps({"message": error.message, "remedy": error.remedy}), 1
    except KernelError as error:
        message = str(error).removesuffix(f"; {error.hint}")
        text, code = json.dumps({"message": message, "remedy": error.hint}), 1
    except OSError as error:
        text, code = json.dumps({"message": f"{error.filename}: {error.strerror}", "remedy": ""}), 1
    with open(answer, "w", encoding="utf-8") as stream:  # noqa: PTH123 - a descriptor, no path
        stream.write(text)
    return code


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")  # in one piece: the units' processes speak at the same time
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
