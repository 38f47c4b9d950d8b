"""What metrics are about, and the labels that name it."""

from __future__ import annotations

from sluicegate_agent.reports.metrics.definition import Label, Scope

_NAMESPACE = Label("namespace", "namespace of the LoadBalancer")
_BALANCER = Label("loadbalancer", "name of the LoadBalancer")
_PORT = Label("port", "name of the port in spec.ports, else such as TCP/80")
_PROTOCOL = Label("protocol", "protocol of the port", ("TCP", "UDP"))
_BACKEND = Label("backend", "address:port of the backend, [address]:port for IPv6")

NODE = Scope()
BALANCER = Scope("load balancer", (_NAMESPACE, _BALANCER))
PORT = Scope("port", (*BALANCER.labels, _PORT, _PROTOCOL))
BACKEND = Scope("backend", (*PORT.labels, _BACKEND))
"""A backend of one port: what serves two ports is two of them."""

SNIFFER = Scope(
    "sniffer", (Label("namespace", "namespace of the DpiSniffer"), Label("sniffer", "name of the DpiSniffer"))
)
WORKER = Scope("worker", (Label("worker", "number of a process of the engine that all sniffers share, from 0"),))

SCOPES = (NODE, BALANCER, PORT, BACKEND, SNIFFER, WORKER)
