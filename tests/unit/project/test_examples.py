"""What the README shows is what the repository holds, and it is valid."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sluicegate_api.validation import validate_documents

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_accepted(example: Path) -> None:
    result = validate_documents([(example.name, example.read_text())])
    assert not result.problems
    assert result.loadbalancers or result.sniffers


def test_the_first_load_balancer_of_the_readme_is_the_example() -> None:
    shown = (ROOT / "README.md").read_text().split("```yaml\n")[1].split("```")[0]
    assert yaml.safe_load(shown) == yaml.safe_load((ROOT / "examples/web.yaml").read_text())
