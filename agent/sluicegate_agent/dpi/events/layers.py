"""What nDPI found in a flow, in the fields that Suricata's EVE has for it: tls, http and dns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

Json = Mapping[str, object]

_TLS_FIELDS = {
    "version": "version",
    "subjectDN": "subject",
    "issuerDN": "issuerdn",
    "notbefore": "notbefore",
    "notafter": "notafter",
    "fingerprint": "fingerprint",
    "server_names": "server_names",
    "ja4": "ja4",
    "cipher": "cipher",
    "advertised_alpns": "client_alpns",
    "negotiated_alpn": "server_alpn",
}
_HTTP_FIELDS = {
    "url": "url",
    "content_type": "http_content_type",
    "request_content_type": "request_content_type",
    "user_agent": "http_user_agent",
    "server": "server",
}
_RRTYPES = {1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 35: "NAPTR"}
_RRTYPES |= {41: "OPT", 43: "DS", 46: "RRSIG", 48: "DNSKEY", 64: "SVCB", 65: "HTTPS", 252: "AXFR", 255: "ANY"}
_RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
_MARKS = (b'"tls":', b'"http":', b'"dns":')


class Layer(NamedTuple):
    """One application layer of a flow: the event's type, which is its key as well, and its object."""

    type: str
    fields: Json


def layers(text: bytes) -> Iterator[Layer]:
    """The layers in nDPI's object of a flow. Nothing of an object that is not JSON."""
    if not any(mark in text for mark in _MARKS):
        return
    try:
        found = json.loads(text)
    except ValueError:
        return
    for name, read in _READERS.items():
        part = found.get("quic", found) if name == "tls" else found
        part = part.get(name) if isinstance(part, dict) else None
        if isinstance(part, dict):
            yield Layer(name, read(found, part))


def _tls(whole: Json, part: Json) -> Json:
    fields = {"sni": whole["hostname"]} if whole.get("hostname") else {}
    fields |= _renamed(part, _TLS_FIELDS)
    if part.get("ja3s"):
        fields["ja3s"] = {"hash": part["ja3s"]}
    return fields


def _http(whole: Json, part: Json) -> Json:
    fields = {"hostname": whole["hostname"]} if whole.get("hostname") else {}
    fields |= _renamed(part, _HTTP_FIELDS)
    if isinstance(part.get("code"), int) and part["code"]:
        fields["status"] = part["code"]
    return fields


def _dns(whole: Json, part: Json) -> Json:
    fields: dict[str, object] = {"rrname": whole["hostname"]} if whole.get("hostname") else {}
    query, reply = part.get("query_type"), part.get("reply_code")
    if isinstance(query, int) and query:
        fields["rrtype"] = _RRTYPES.get(query, f"TYPE{query}")
    answers = part.get("num_answers")
    if isinstance(answers, int):
        fields["answers"] = answers
    if isinstance(reply, int):
        fields["rcode"] = _RCODES.get(reply, f"RCODE{reply}")
    return fields


def _renamed(part: Json, names: Mapping[str, str]) -> dict[str, object]:
    return {ours: part[theirs] for theirs, ours in names.items() if part.get(theirs)}


_READERS: Mapping[str, Callable[[Json, Json], Json]] = {"tls": _tls, "http": _http, "dns": _dns}
