"""Links that take smaller packets than the ends of a connection believe."""

from __future__ import annotations

from typing import Literal

import pytest

from clients import datagram_socket, exchange, pattern
from sluicegate_agent.lab.agent import service_port
from sluicegate_agent.lab.counters import of_reason
from sluicegate_agent.lab.rig import VIP4, VIP6, Mtus, RigOptions
from stage import NAT_MODES, Build, Mode, each_mode

pytestmark = pytest.mark.lab

SIZE = 2_000_000
NARROW = 1400
MSS = 1440  # 1480 or 1500 bytes with headers: more than the narrow link takes, no more than the others


def assert_transfer(
    build: Build, options: RigOptions, mode: Mode, direction: Literal["download", "upload"], reason: str
) -> None:
    stage = build(options)
    stage.balance(mode=mode)
    for vip in (VIP4, VIP6):
        before = of_reason(stage.agent.packets(), reason)
        assert stage.transfer(direction, vip, SIZE, 1e9, mode=mode).communicate(timeout=60)[0] == "started\nok\n", vip
        assert of_reason(stage.agent.packets(), reason) > before, vip


@each_mode("FullNAT", "DirectReturn")
def test_a_client_is_told_that_the_link_to_the_backend_takes_less(build: Build, mode: Mode) -> None:
    options = RigOptions(backends=1, mtus=Mtus(backend_link=NARROW), promised_mss=MSS)
    assert_transfer(build, options, mode, "upload", "reported_too_big")


@each_mode("DNAT", of=NAT_MODES)
def test_a_backend_is_told_that_the_link_to_the_client_takes_less(build: Build, mode: Mode) -> None:
    options = RigOptions(backends=1, mtus=Mtus(client_link=NARROW), promised_mss=MSS)
    assert_transfer(build, options, mode, "download", "reported_too_big")


@each_mode("FullNAT", of=NAT_MODES)
def test_what_a_router_before_the_backend_reports_reaches_the_client(build: Build, mode: Mode) -> None:
    options = RigOptions(backends=1, behind_router=True, mtus=Mtus(backend_edge=NARROW), promised_mss=MSS)
    assert_transfer(build, options, mode, "upload", "forwarded_error")


@each_mode("FullNAT", "DirectReturn")
def test_what_a_router_before_the_client_reports_reaches_the_backend(build: Build, mode: Mode) -> None:
    options = RigOptions(backends=2, client_behind_router=True, mtus=Mtus(client_edge=NARROW), promised_mss=MSS)
    assert_transfer(build, options, mode, "download", "forwarded_error")


@each_mode("FullNAT")
def test_datagrams_larger_than_the_link_to_the_backend_are_cut_once_the_client_knows(build: Build, mode: Mode) -> None:
    stage = build(RigOptions(backends=1, mtus=Mtus(backend_link=NARROW)))
    stage.balance(mode=mode, udp=True)
    for vip in (VIP4, VIP6):
        with datagram_socket(stage.rig.client, vip, service_port("UDP", mode), seconds=1.0) as client:
            with pytest.raises(OSError, match=r"timed out|too long"):
                exchange(client, pattern(1440))
            assert exchange(client, pattern(1440)) == pattern(1440)
