"""What applications say at the start of a flow, from public descriptions of their protocols."""

from __future__ import annotations

from typing import NamedTuple, SupportsBytes

from engine_rig import client_hello
from scapy.asn1.asn1 import ASN1_OID
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.ntp import NTP
from scapy.layers.snmp import SNMP, SNMPget, SNMPvarbind

TCP_NUMBER, UDP_NUMBER = 6, 17


class AppTalk(NamedTuple):
    """``says``: one payload a packet, the client and the server in turn; an empty one is left out."""

    l4: int
    port: int
    says: tuple[bytes, ...]


_SMB2 = bytes.fromhex("fe534d4240000100000000000000010000000000000000000000000000000000fffe") + bytes(30)
_SMB2 += bytes.fromhex("24000200010000007f000000") + bytes(24) + bytes.fromhex("02021002")
_COOKIE = b"Cookie: mstshash=admin\r\n"
_RDP = bytes([14 + len(_COOKIE), 0xE0, 0, 0, 0, 0, 0]) + _COOKIE + bytes.fromhex("0100080003000000")


def _tcp(port: int, *says: bytes) -> AppTalk:
    return AppTalk(TCP_NUMBER, port, says)


def _udp(port: int, says: SupportsBytes) -> AppTalk:
    return AppTalk(UDP_NUMBER, port, (bytes(says),))


TALKS = {
    "http": _tcp(80, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "tls": _tcp(443, client_hello("www.example.org")),
    "ssh": _tcp(22, b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"SSH-2.0-test_1\r\n"),
    "smtp": _tcp(
        25,
        b"",
        b"220 mail.example.org ESMTP\r\n",
        b"EHLO client\r\n",
        b"250 mail.example.org\r\n",
        b"MAIL FROM:<a@example.org>\r\n",
        b"250 OK\r\n",
    ),
    "ftp": _tcp(21, b"", b"220 FTP ready\r\n", b"USER root\r\n", b"331 Password\r\n", b"PASS x\r\n", b"230 in\r\n"),
    "smb": _tcp(445, *[len(_SMB2).to_bytes(4, "big") + _SMB2] * 2),
    "imap": _tcp(143, b"", b"* OK IMAP4rev1\r\n", b"a1 LOGIN a b\r\n", b"a1 OK done\r\n", b"a2 SELECT INBOX\r\n"),
    "pop3": _tcp(
        110,
        b"",
        b"+OK POP3 ready\r\n",
        b"USER a\r\n",
        b"+OK\r\n",
        b"PASS b\r\n",
        b"+OK in\r\n",
        b"STAT\r\n",
        b"+OK 2\r\n",
    ),
    "mqtt": _tcp(1883, b"\x10\x13\0\x04MQTT\x04\x02\0\x3c\0\x07sensor1", b"\x20\x02\0\0"),
    "telnet": _tcp(
        23,
        b"",
        bytes.fromhex("fffd18fffd20fffd23fffd27"),
        bytes.fromhex("fffb18fffb20fffb23fffb27"),
        bytes.fromhex("fffa1801fff0"),
        bytes.fromhex("fffa1800787465726dfff0"),
    ),
    "rdp": _tcp(
        3389,
        b"\x03\0" + (4 + len(_RDP)).to_bytes(2, "big") + _RDP,
        bytes.fromhex("030000130ed000001234000200080001000000"),
    ),
    "dns": _udp(53, DNS(id=7, rd=1, qd=DNSQR(qname="www.example.org"))),
    "sip": _udp(
        5060,
        b"INVITE sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1:5060\r\nCSeq: 1 INVITE\r\n"
        b"Content-Length: 0\r\n\r\n",
    ),
    "ntp": _udp(123, NTP(version=4)),
    "snmp": _udp(161, SNMP(PDU=SNMPget(varbindlist=[SNMPvarbind(oid=ASN1_OID("1.3.6.1.2.1.1.1.0"))]))),
    "tftp": _udp(69, b"\0\x01secret.txt\0octet\0"),
    "dhcp": _udp(67, BOOTP(chaddr=b"\2\0\0\0\0\1") / DHCP(options=[("message-type", "discover"), "end"])),
}
"""By the protocol's name in rules."""
