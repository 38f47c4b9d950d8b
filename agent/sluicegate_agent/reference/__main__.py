"""``python -m sluicegate_agent.reference [FOLDER]``: write the pages of the reference anew."""

from __future__ import annotations

import sys
from pathlib import Path

from sluicegate_agent.reference.pages import PAGES


def main(arguments: list[str]) -> int:
    """Write all pages to the folder, docs/reference when none is named."""
    if len(arguments) > 1:
        sys.stderr.write("usage: python -m sluicegate_agent.reference [FOLDER]\n")
        return 2
    folder = Path(arguments[0]) if arguments else Path("docs/reference")
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (folder / name).write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
