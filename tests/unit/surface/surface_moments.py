"""Moments of an agent's life for the tests of this folder: made from YAML by the real parts, with no kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address

import yaml

from sluicegate_agent.attach import Attached, Mode
from sluicegate_agent.datapath.memory import MemoryDatapath
from sluicegate_agent.datapath.model import InterfaceIndex, Settings
from sluicegate_agent.health.model import Health, HealthState
from sluicegate_agent.network.model import Link, NetworkSnapshot, NoPath, Path
from sluicegate_agent.planning.builder import DesiredBuilder
from sluicegate_agent.planning.desired import Desired, Limits
from sluicegate_agent.planning.ids import BackendKey
from sluicegate_agent.planning.reconcile import Reconciler
from sluicegate_agent.planning.services import expand
from sluicegate_agent.planning.steer import Steer
from sluicegate_agent.planning.targets import health_targets
from sluicegate_agent.programs import FEATURES
from sluicegate_agent.reports.situation import Applied, Programs, Situation
from sluicegate_agent.source.configuration import Configuration, configure
from sluicegate_agent.source.files import Files

ETH0, ETH1 = InterfaceIndex(2), InterfaceIndex(3)
ALL_PROGRAMS = Programs(frozenset(FEATURES), "")


def document(name: str = "web", **spec: object) -> str:
    """The YAML of a load balancer; ``spec`` adds to it or replaces parts of it."""
    return yaml.safe_dump(
        {
            "apiVersion": "sluicegate.io/v1alpha1",
            "kind": "LoadBalancer",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {
                "addresses": ["203.0.113.10"],
                "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
                "backends": {"static": [{"address": "10.0.0.1"}, {"address": "10.0.0.2", "weight": 50}]},
                **spec,
            },
        }
    )


def files(**texts: str) -> Files:
    """Files ``<name>.yaml`` with these texts."""
    return Files({f"{name}.yaml": text for name, text in texts.items()})


def configured(*texts: str, previous: Configuration | None = None) -> Configuration:
    """One file ``a.yaml`` of several documents, read after ``previous``."""
    return configure(files(a="---\n".join(texts)), previous or Configuration())


def network(unreachable: Mapping[str, str] | None = None, **changes: object) -> NetworkSnapshot:
    """A node with eth0 towards clients and 10.0.0.0/24 on eth1; ``unreachable`` gives reasons by address."""
    paths: dict[object, Path | NoPath] = {}
    for number in range(1, 10):
        for address in (f"10.0.0.{number}", f"fd00::{number}"):
            ip = ip_address(address)
            source = ip_address("10.0.0.254" if ip.version == 4 else "fd00::fe")
            paths[ip] = Path(ETH1, ip, source, 1500, b"\2\0\0\0\1\1", onlink=True, host_route=False)
    paths.update({ip_address(address): NoPath(reason) for address, reason in (unreachable or {}).items()})
    links = {
        index: Link(index, name, "", 1500, bytes(6), up=True, ethernet=True, takes_redirect=True)
        for index, name in ((ETH0, "eth0"), (ETH1, "eth1"))
    }
    snapshot = NetworkSnapshot(
        links=links,
        addresses=frozenset({ip_address("192.0.2.1")}),
        default_interfaces=frozenset({ETH0}),
        paths=paths,  # type: ignore[arg-type]
        forwarding={4: True, 6: True},
    )
    return replace(snapshot, **changes)  # type: ignore[arg-type]


def moment(
    configuration: Configuration,
    *,
    snapshot: NetworkSnapshot | None = None,
    down: Mapping[str, str] | None = None,
    programs: Programs = ALL_PROGRAMS,
    later: Configuration | None = None,
    steering: Mapping[BackendKey, Steer] | None = None,
) -> Situation:
    """What the agent knows once it ran ``configuration``, and then ``later`` if given.

    ``down`` gives the reason for each backend's address whose checks fail; the others pass them.
    """
    snapshot = snapshot or network()
    builder, reconciler = DesiredBuilder(Limits(), Settings()), Reconciler(MemoryDatapath())
    desired, health = Desired(), {}
    for step in (configuration, configuration, *([later] if later else [])):
        targets = health_targets(service for each in step.effective() for service in expand(each))
        health = {
            key: Health(HealthState.DOWN, down[str(key.address)], 0.0, checks=5, failures=3)
            if down and str(key.address) in down
            else Health(HealthState.UP, "connected", 0.0, checks=5)
            for key in targets
        }
        states = {key: each.state for key, each in health.items()}
        observed = reconciler.observed()
        desired = builder.build(step.effective(), snapshot, states, observed, 100.0, steering=steering or {})
        assert reconciler.reconcile(desired.state).converged
    attached = {
        ifindex: Attached(ifindex, snapshot.links[ifindex].name, Mode.XDP, "", "xdp_main")
        for ifindex in desired.attachments
    }
    return Situation(
        configuration=later or configuration,
        network=snapshot,
        desired=desired,
        applied=Applied(bound=frozenset(reconciler.observed().vips)),
        programs=programs,
        attached=attached,
        health=health,
    )
