"""Which devices take frames that XDP redirects to them, from the generic netlink family ``netdev``.

Commands and attributes: linux/netdev.h (Linux 6.3). A veth's answer changes with its peer, so it is followed by events.
"""

from __future__ import annotations

import struct

from sluicegate_agent.datapath.model import InterfaceIndex
from sluicegate_agent.network.netlink import (
    GENERIC,
    Events,
    Message,
    NetlinkError,
    Requests,
    attribute,
    attribute_list,
    attributes,
)

_CONTROL = 0x10  # GENL_ID_CTRL
_GET_FAMILY = 3
_FAMILY_ID, _FAMILY_NAME, _FAMILY_GROUPS = 1, 2, 7
_GROUP_NAME, _GROUP_ID = 1, 2

_DEVICE_GET, _DEVICE_ADDED, _DEVICE_CHANGED = 1, 2, 4
_IFINDEX, _XDP_FEATURES = 1, 3
_NDO_XMIT = 4

_COMMAND_BYTES = 4


class XdpFeatures:
    """The family ``netdev`` of this kernel. Raises :class:`NetlinkError` when it has none."""

    def __init__(self) -> None:
        self._requests = Requests(GENERIC)
        try:
            self._family, group = self._find()
            self.events = Events(GENERIC, [group])
        except OSError:
            self._requests.close()
            raise

    def read(self) -> dict[InterfaceIndex, bool]:
        """All devices of the namespace: whether each transmits redirected frames now."""
        found = (parse_device(body) for body in self._requests.dump(self._family, bytes([_DEVICE_GET, 1, 0, 0])))
        return dict(device for device in found if device is not None)

    def parse_event(self, message: Message) -> tuple[InterfaceIndex, bool] | None:
        """The device that an event tells of; None for one that vanished (rtnetlink tells that too)."""
        if message.kind != self._family or message.body[0] not in {_DEVICE_ADDED, _DEVICE_CHANGED}:
            return None
        return parse_device(message.body)

    def close(self) -> None:
        """Close both sockets."""
        self.events.close()
        self._requests.close()

    def _find(self) -> tuple[int, int]:
        request = bytes([_GET_FAMILY, 1, 0, 0]) + attribute(_FAMILY_NAME, b"netdev\0")
        found = attributes(self._requests.ask(_CONTROL, request), _COMMAND_BYTES)
        for _index, group in attribute_list(found.get(_FAMILY_GROUPS, b"")):
            described = attributes(group)
            if described.get(_GROUP_NAME) == b"mgmt\0":
                return struct.unpack("=H", found[_FAMILY_ID])[0], struct.unpack("=I", described[_GROUP_ID])[0]
        raise NetlinkError(2, "the family netdev has no group mgmt")


def parse_device(body: bytes) -> tuple[InterfaceIndex, bool] | None:
    """Interface and whether its driver has NDO_XMIT; None for an answer without features."""
    found = attributes(body, _COMMAND_BYTES)
    if _IFINDEX not in found or _XDP_FEATURES not in found:
        return None
    features = struct.unpack("=Q", found[_XDP_FEATURES])[0]
    return InterfaceIndex(struct.unpack("=I", found[_IFINDEX])[0]), bool(features & _NDO_XMIT)
