"""The form of log lines."""

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from sluicegate_agent.logs import JsonFormatter, set_up_logging
from sluicegate_agent.settings import LogFormat


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger("sluicegate_agent")
    handlers, levels = root.handlers[:], (root.level, own.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    own.setLevel(levels[1])


def test_json_lines_carry_fixed_keys_and_the_extras() -> None:
    record = logging.makeLogRecord({"name": "n", "levelname": "INFO", "msg": "%d é", "args": (3,), "vip": "10.0.0.1"})
    line = JsonFormatter().format(record)
    assert "\n" not in line
    read = json.loads(line)
    assert (read["level"], read["message"], read["logger"], read["vip"]) == ("info", "3 é", "n", "10.0.0.1")
    assert read["time"].endswith("+00:00")


def test_an_exception_stays_on_the_one_line() -> None:
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        line = JsonFormatter().format(logging.makeLogRecord({"msg": "m", "exc_info": sys.exc_info()}))
    assert "\n" not in line
    assert "broken" in json.loads(line)["error"]


def test_off_a_terminal_lines_are_json_and_details_need_the_flag(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(LogFormat.AUTO)
    log = logging.getLogger("sluicegate_agent.test")
    log.info("told")
    log.debug("kept")
    set_up_logging(LogFormat.TEXT, verbose=True)
    log.debug("details")
    first, second = capsys.readouterr().err.splitlines()
    assert json.loads(first)["message"] == "told"
    assert second.endswith("DEBUG   details")
