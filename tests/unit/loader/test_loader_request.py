"""Requests to the loader."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sluicegate_agent.loader.request import LoadRequest, bpf_sources


def test_a_request_survives_the_pipe_to_the_loader() -> None:
    request = LoadRequest(Path("/src"), Path("/pins"), {"FLOWS": 3}, {"IPV6": False})
    assert LoadRequest.from_json(request.to_json()) == request
    kept = replace(request, cache=Path("/cache"))
    assert LoadRequest.from_json(kept.to_json()) == kept


def test_sizes_and_features_become_macros_in_a_fixed_order() -> None:
    request = LoadRequest(Path("/src"), Path("/pins"), {"NATS": 2, "FLOWS": 3}, {"IPV6": False, "DNAT": True})
    assert request.defines == ("-DFLOWS=3", "-DNATS=2", "-DWITH_DNAT=1", "-DWITH_IPV6=0")


def test_a_name_that_could_be_another_compiler_flag_is_refused() -> None:
    with pytest.raises(ValueError, match="no macro name"):
        LoadRequest(Path("/src"), Path("/pins"), {"X -include /etc/shadow": 3})


def test_the_sources_of_a_checkout_are_found() -> None:
    assert (bpf_sources() / "types.h").is_file()
