"""What the tests of this folder share."""

from __future__ import annotations

import pytest
from plan_node import Node


@pytest.fixture
def node() -> Node:
    return Node()
