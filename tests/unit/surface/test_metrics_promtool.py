"""Prometheus' own tool accepts a real scrape, and the queries that the pages show."""

from __future__ import annotations

import re
import subprocess
import urllib.request
from pathlib import Path

import pytest
import yaml
from metrics_sample import sample

from sluicegate_agent.reports.metrics import MetricsServer, Sample
from sluicegate_agent.settings import ListenAddress

ROOT = Path(__file__).parents[3]
PROMTOOL = ROOT / ".tools" / "prometheus" / "usr" / "bin" / "promtool"

pytestmark = pytest.mark.skipif(
    not PROMTOOL.exists(), reason="no promtool: scripts/debian_tool.sh prometheus fetches one"
)


def promtool(*arguments: str, given: bytes = b"") -> tuple[int, str]:
    """Exit code and all that it wrote."""
    done = subprocess.run([PROMTOOL, *arguments], input=given, capture_output=True, timeout=30, check=False)
    return done.returncode, (done.stdout + done.stderr).decode()


@pytest.mark.parametrize("shown", [sample(), Sample()], ids=["everything", "nothing"])
def test_a_scrape_is_accepted_without_a_complaint(shown: Sample) -> None:
    server = MetricsServer(ListenAddress("127.0.0.1", 0), lambda: shown, 1000)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=5) as answer:
            text = answer.read()
    finally:
        server.close()
    assert promtool("check", "metrics", given=text) == (0, "")


def test_what_it_would_complain_of_is_noticed() -> None:
    code, words = promtool("check", "metrics", given=b"# TYPE requests counter\nrequests 1\n")
    assert code != 0
    assert "requests" in words


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.name)
def test_queries_of_the_pages_are_promql(path: Path, tmp_path: Path) -> None:
    texts = re.findall(r"^```promql\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    queries = [query for text in texts for query in re.split(r"\n(?=\w)", text.strip())]
    if not queries:
        return
    rules = [{"alert": f"Query{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "docs", "rules": rules}]}), encoding="utf-8")
    code, words = promtool("check", "rules", str(file))
    assert code == 0, words
