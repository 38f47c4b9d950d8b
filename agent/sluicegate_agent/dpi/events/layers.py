"""What nDPI found in a flow, in the fields that Suricata's EVE has for it: tls, http and dns."""

from __future__ import annotations

import json
import re
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
_LAYER = re.compile(r'"(tls|http|dns)": ?\{')
_HOSTNAME = re.compile(r'"hostname": ?(?=")')
_decode = json.JSONDecoder().raw_decode


class Layer(NamedTuple):
    """One application layer of a flow: the event's type, which is its key as well, and its object."""

    type: str
    fields: Json


def layers(text: bytes) -> Iterator[Layer]:
    """The layers in nDPI's object of a flow, also those inside of another one, as TLS in QUIC. Not what is not JSON."""
    if not any(mark in text for mark in _MARKS):
        return
    whole = text.decode("utf-8", "replace")
    hostname = ""
    try:
        if (name := _HOSTNAME.search(whole)) is not None:
            hostname, _ = _decode(whole, name.end())
        for found in _LAYER.finditer(whole):  # it cannot stand inside of a value: there quotes are escaped
            part, _ = _decode(whole, found.end() - 1)
            yield Layer(found[1], _READERS[found[1]](hostname, part))
    except ValueError:
        return


def _tls(hostname: str, part: Json) -> Json:
    fields: dict[str, object] = {"sni": hostname} if hostname else {}
    fields |= _renamed(part, _TLS_FIELDS)
    if part.get("ja3s"):
        fields["ja3s"] = {"hash": part["ja3s"]}
    return fields


def _http(hostname: str, part: Json) -> Json:
    fields: dict[str, object] = {"hostname": hostname} if hostname else {}
    fields |= _renamed(part, _HTTP_FIELDS)
    if isinstance(part.get("code"), int) and part["code"]:
        fields["status"] = part["code"]
    return fields


def _dns(hostname: str, part: Json) -> Json:
    fields: dict[str, object] = {"rrname": hostname} if hostname else {}
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


_READERS: Mapping[str, Callable[[str, Json], Json]] = {"tls": _tls, "http": _http, "dns": _dns}
