"""IP addresses and networks in resources: how they are read, and which ones nobody may balance."""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from sluicegate_api.cel import cel

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

_LONGEST_ADDRESS = 45  # INET6_ADDRSTRLEN without its terminating zero
_LONGEST_NETWORK = 49  # an address and "/128"
_THIS_NETWORK = ipaddress.IPv4Network("0.0.0.0/8")
_BROADCAST = ipaddress.IPv4Address("255.255.255.255")


def forbidden(address: IPAddress) -> str | None:
    """Why an address can be neither VIP nor backend nor probe target on any node; None when it can."""
    kinds = (
        (isinstance(address, IPv6Address) and address.ipv4_mapped is not None, "an IPv4-mapped address"),
        (address.is_unspecified, "the unspecified address"),
        (address.is_loopback, "a loopback address"),
        (address.is_link_local, "a link-local address"),
        (address.is_multicast, "a multicast address"),
        (address == _BROADCAST, "the broadcast address"),
        (address.version == 4 and address in _THIS_NETWORK, 'an address of "this network" (0.0.0.0/8)'),
    )
    return next((words for applies, words in kinds if applies), None)


def _problem(reason: str) -> PydanticCustomError:
    return PydanticCustomError("address", "{reason}", {"reason": reason})


def _parse_address(value: object) -> IPAddress:
    if isinstance(value, IPv4Address | IPv6Address):
        address = value
    elif not isinstance(value, str):
        raise _problem("must be an IP address in quotes")
    elif "%" in value:
        raise _problem(f'"{value}" has a zone (after "%"): give an address that is the same on every node')
    elif "/" in value:
        raise _problem(f'"{value}" is a network: give a single address, without a prefix length')
    else:
        try:
            address = ipaddress.ip_address(value)
        except ValueError:
            raise _problem(f'"{value}" is not an IPv4 or IPv6 address') from None
    if words := forbidden(address):
        raise _problem(f"{address} is {words}, which cannot be used here")
    return address


def _parse_network(value: object) -> IPNetwork:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    if not isinstance(value, str):
        raise _problem('must be a network in quotes, such as "198.51.100.0/24"')
    if "/" not in value:
        raise _problem(f'"{value}" has no prefix length: write a network such as "198.51.100.0/24"')
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise _problem(f'"{value}" is not an IPv4 or IPv6 network') from None
    if not value.rpartition("/")[2].isdigit():
        raise _problem(f'"{value}" has a netmask: write "{network}"')
    if str(network.network_address) != str(ipaddress.ip_address(value.rpartition("/")[0])):
        raise _problem(f'"{value}" is an address inside a network: did you mean "{network}"?')
    if network.version == 6 and network.prefixlen >= 96 and network.network_address.ipv4_mapped is not None:
        raise _problem(f'"{value}" holds IPv4-mapped addresses: write the IPv4 network')
    return network


def _schema(longest: int, rule: str, message: str) -> WithJsonSchema:
    return WithJsonSchema(
        {"type": "string", "minLength": 2, "maxLength": longest, "x-kubernetes-validations": [cel(rule, message)]}
    )


UsableAddress = Annotated[
    IPAddress,
    PlainValidator(_parse_address),
    PlainSerializer(str, return_type=str),
    _schema(
        _LONGEST_ADDRESS,
        "isIP(self) && ip(self).isGlobalUnicast() && !self.startsWith('0.')",
        "must be an IPv4 or IPv6 address, and not loopback, link-local, multicast, unspecified or IPv4-mapped",
    ),
]
"""An address that a packet can be sent to from elsewhere."""

Network = Annotated[
    IPNetwork,
    PlainValidator(_parse_network),
    PlainSerializer(str, return_type=str),
    _schema(
        _LONGEST_NETWORK,
        # Kubernetes 1.31 takes "==" of networks for unboundedly expensive, but not indexOf.
        "isCIDR(self) && [cidr(self)].indexOf(cidr(self).masked()) == 0",
        "must be an IPv4 or IPv6 network such as 198.51.100.0/24, without bits after the prefix",
    ),
]
