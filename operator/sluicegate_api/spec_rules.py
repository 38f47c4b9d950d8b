"""Rules over several fields of a load balancer's spec, for the API server."""

from __future__ import annotations

from sluicegate_api.cel import cel

SPEC_RULES = (
    cel(
        "!has(self.backends.static) || size(self.ports) == 1 || self.backends.static.all(b, !has(b.port))",
        "port of a static backend needs a single entry in ports",
    ),
    cel(
        "!has(self.backends.static) || self.ports.all(p, !has(p.targetPort) || type(p.targetPort) == int)",
        "targetPort must be a number with static backends",
    ),
    cel(
        "!has(self.backends.static) || self.backends.static.all(b, !(b.address in self.addresses))",
        "an address cannot be one of its own backends",
    ),
    cel(
        "!has(self.forwarding) || !has(self.forwarding.mode) || self.forwarding.mode != 'DirectReturn'"
        " || (self.ports.all(p, !has(p.targetPort) || (type(p.targetPort) == int && p.targetPort == p.port))"
        " && (!has(self.backends.static)"
        " || self.backends.static.all(b, !has(b.port) || b.port == self.ports[0].port)))",
        "DirectReturn leaves packets as they are: targetPort and the backends' port must equal port",
    ),
    cel(
        "!has(self.healthCheck) || has(self.healthCheck.port)"
        " || (has(self.healthCheck.type) && self.healthCheck.type == 'None')"
        " || self.ports.exists(p, !has(p.protocol) || p.protocol == 'TCP')",
        "a check of UDP ports needs healthCheck.port, a TCP port",
    ),
    cel(
        "!has(self.backends.static) || !has(self.dynamicWeights) || !has(self.dynamicWeights.type)"
        " || self.dynamicWeights.type != 'PodMetrics'",
        "dynamicWeights of type PodMetrics need backends that are pods",
    ),
    cel(
        "!has(self.forwarding) || !has(self.forwarding.mode) || self.forwarding.mode != 'DirectReturn'"
        " || !has(self.dynamicWeights) || !has(self.dynamicWeights.type) || self.dynamicWeights.type != 'Passive'",
        "dynamicWeights of type Passive measure replies, and with DirectReturn none comes through the node",
    ),
)
