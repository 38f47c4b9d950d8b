"""About a hundred rules of the kinds that people load, made here from a few tables: for tests and measurements."""

from __future__ import annotations

from collections.abc import Iterator

VARIABLES = {
    "HOME_NET": "[10.0.0.0/8,192.168.0.0/16,2001:db8::/32]",
    "EXTERNAL_NET": "!$HOME_NET",
    "HTTP_PORTS": "[80,8000:8999]",
}

_TO_WEB = "alert http $EXTERNAL_NET any -> $HOME_NET any"
_FROM_WEB = "alert http $HOME_NET any -> $EXTERNAL_NET any"

_PATHS = (
    "/etc/passwd", "/../../", "/.git/config", "/wp-login.php", "/phpmyadmin/", "/.env", "/server-status", "/cgi-bin/",
    "/actuator/heapdump", "/solr/admin/", "/manager/html", "/boaform/", "/vendor/phpunit/", "/console/login",
    "/jenkins/script", "/.aws/credentials",
)  # fmt: skip
_AGENTS = (
    "sqlmap",
    "nikto",
    "masscan",
    "zgrab",
    "nuclei",
    "dirbuster",
    "gobuster",
    "wpscan",
    "hydra",
    "python-requests/1.",
)
_INJECTIONS = (
    r"/union\s+(?:all\s+)?select\s/i", r"/\bor\s+1\s*=\s*1/i", r"/sleep\(\s*\d+\s*\)/i", r"/<script[^>]*>/i",
    r"/\$\{jndi:(?:ldap|rmi|dns):/i", r"/;\s*(?:wget|curl)\s+http/i", r"/information_schema\.tables/i",
    r"/(?:\.\.%2f){2}/i", r"/xp_cmdshell/i", r"/onerror\s*=\s*alert/i", r"/load_file\s*\(/i",
    r"/php:\/\/(?:input|filter)/i",
)  # fmt: skip
_NAMES = (
    "update-check.example", "cdn-metrics.example", "paste.example", "dyn.example.net", "onion.example",
    "pool.example.org",
    "files.example.net", "beacon.example", "login-verify.example", "share.example.org", "stage2.example",
    "telemetry.example.net",
)  # fmt: skip
_BINARY = (
    ("MZ program in an answer", 'content:"MZ"; depth:2; content:"This program"; distance:40; within:100;'),
    ("ELF in an answer", 'content:"|7f|ELF"; startswith;'),
    ("Java class in an answer", 'content:"|ca fe ba be 00 00 00|"; depth:7;'),
    ("PowerShell hidden", 'content:"powershell"; nocase; content:"-enc"; nocase; distance:0; within:60;'),
    ("shell of an attacker", 'content:"/bin/sh"; content:"-i"; within:6;'),
    ("directory listing of Windows", 'content:"Volume Serial Number"; content:"Directory of"; distance:0; within:80;'),
    ("id of root", 'content:"uid=0(root)"; content:"gid=0"; within:10;'),
    ("private key in clear", 'content:"-----BEGIN"; content:"PRIVATE KEY-----"; distance:1; within:24;'),
    ("NOP sled", 'content:"|90 90 90 90 90 90 90 90 90 90 90 90 90 90 90 90|";'),
    ("long base64 as a parameter", 'content:"payload="; pcre:"/^[A-Za-z0-9+\\/]{120,400}/R";'),
)
_SERVICES = (
    ("tcp", "22", "SSH of an old version", 'content:"SSH-1."; startswith;'),
    ("tcp", "21", "FTP as root", 'content:"USER "; depth:5; content:"root"; nocase; within:4;'),
    ("tcp", "23", "telnet default password", 'content:"root|0d 0a|"; content:"admin|0d 0a|"; distance:0;'),
    ("tcp", "25", "mail of a known spammer", 'content:"MAIL FROM:"; nocase; content:"@bulk.example"; within:60;'),
    ("tcp", "445", "SMB version 1", 'content:"|ff|SMB"; offset:4; depth:4;'),
    ("tcp", "3389", "RDP cookie of a scanner", 'content:"mstshash=hello"; nocase; depth:60;'),
    (
        "tcp",
        "6379",
        "Redis made to write files",
        'content:"config"; nocase; content:"set"; nocase; content:"dir"; nocase;',
    ),
    ("tcp", "5900", "VNC without password", 'content:"RFB 003."; startswith;'),
    ("tcp", "1433", "login of sa", 'content:"s|00|a|00|"; offset:40; depth:200;'),
    ("udp", "161", "SNMP public", 'content:"public"; depth:20;'),
    ("udp", "123", "NTP monlist", 'content:"|17 00 03 2a|"; startswith; dsize:<60;'),
    ("udp", "1900", "SSDP search", 'content:"M-SEARCH"; startswith; content:"ssdp:all"; nocase;'),
    ("udp", "53", "DNS any", 'content:"|00 00 ff 00 01|"; endswith;'),
    ("udp", "5060", "SIP scanner", 'content:"User-Agent|3a| "; content:"friendly-scanner"; within:30;'),
    ("icmp", "any", "large ping", "dsize:>1000;"),
    (
        "tcp",
        "any",
        "miner logs in",
        'content:"|22|method|22|"; content:"|22|mining.subscribe|22|"; distance:0; within:30;',
    ),
)


def own_rules() -> str:
    """The rules, one a line, sids from 9000001."""
    return "".join(f"{rule} sid:{9_000_001 + index}; rev:1;)\n" for index, rule in enumerate(_rules()))


def _rules() -> Iterator[str]:
    for path in _PATHS:
        yield f'{_TO_WEB} (msg:"path {path}"; flow:established,to_server; http.uri; content:"{path}"; nocase;'
    for agent in _AGENTS:
        yield f'{_TO_WEB} (msg:"agent {agent}"; flow:to_server; http.user_agent; content:"{agent}"; nocase;'
    for number, text in enumerate(_INJECTIONS):
        expression = text.replace(";", r"\;")
        yield f'{_TO_WEB} (msg:"injection {number}"; http.uri; pcre:"{expression}";'
        where = 'content:"POST "; depth:5; '
        yield f'alert tcp any any -> $HOME_NET $HTTP_PORTS (msg:"body {number}"; {where}pcre:"{expression}R";'
    for name in _NAMES:
        yield f'alert dns $HOME_NET any -> any 53 (msg:"query {name}"; dns.query; content:"{name}"; endswith;'
        yield f'alert tls $HOME_NET any -> any any (msg:"TLS to {name}"; tls.sni; content:"{name}"; nocase; endswith;'
        yield f'{_FROM_WEB} (msg:"HTTP to {name}"; http.host; content:"{name}"; http.uri; content:!"/robots.txt";'
    for message, options in _BINARY:
        yield f'alert tcp any any -> any any (msg:"{message}"; flow:established; {options} classtype:trojan-activity;'
    for protocol, port, message, options in _SERVICES:
        yield f'alert {protocol} any any -> any {port} (msg:"{message}"; {options} classtype:misc-attack; priority:2;'
