"""What tests of the packet programs are repeated for."""

from __future__ import annotations

import pytest

from bench import EGRESS, Hook
from services import TRANSLATING_MODES
from sluicegate_agent.datapath.model import ForwardingMode, Protocol

HOOKS = pytest.mark.parametrize("hook", Hook)
ALL_HOOKS = pytest.mark.parametrize("hook", [*Hook, EGRESS])
FAMILIES = pytest.mark.parametrize("family", [4, 6])
PROTOCOLS = pytest.mark.parametrize("protocol", Protocol)
MODES = pytest.mark.parametrize("mode", ForwardingMode)
TRANSLATING = pytest.mark.parametrize("mode", TRANSLATING_MODES)
