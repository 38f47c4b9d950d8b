"""nDPI's names of protocols, as its labels have them, where they mean something to us."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sluicegate_agent.dpi.rules.model import App

NDPI_NAMES: Final[Mapping[App, frozenset[str]]] = {
    App.HTTP: frozenset({"HTTP", "HTTP_Proxy", "HTTP_Connect"}),
    App.TLS: frozenset({"TLS"}),
    App.DNS: frozenset({"DNS", "MDNS", "LLMNR"}),
    App.SSH: frozenset({"SSH"}),
    App.SMTP: frozenset({"SMTP"}),
    App.FTP: frozenset({"FTP_CONTROL"}),
    App.QUIC: frozenset({"QUIC"}),
    App.SIP: frozenset({"SIP"}),
    App.SMB: frozenset({"SMBv1", "SMBv23"}),
    App.IMAP: frozenset({"IMAP"}),
    App.POP3: frozenset({"POP3"}),
    App.MQTT: frozenset({"MQTT"}),
    App.NTP: frozenset({"NTP"}),
    App.SNMP: frozenset({"SNMP"}),
    App.TFTP: frozenset({"TFTP"}),
    App.TELNET: frozenset({"Telnet"}),
    App.RDP: frozenset({"RDP"}),
    App.DHCP: frozenset({"DHCP", "DHCPV6"}),
    App.KRB5: frozenset({"Kerberos"}),
}
"""What nDPI 5.0 calls the applications that rules can name."""

ENCRYPTED: Final = (
    "TLS",
    "DTLS",
    "QUIC",
    "SSH",
    "IPSec",
    "WireGuard",
    "OpenVPN",
    "IMAPS",
    "POPS",
    "SMTPS",
    "FTPS",
    "DoH_DoT",
)
"""Behind these no signature finds anything."""
