"""How the head of an HTTP/1.1 response (RFC 9112) is told: by everybody who reads one from a backend."""

from __future__ import annotations

import re
from typing import Final

LONGEST_HEAD: Final = 16_384
"""Bytes of status line and headers, of interim responses too; servers' own limits are 4 to 16 KiB."""
BEGINNING: Final = b"HTTP/1."
STATUS_LINE: Final = re.compile(rb"HTTP/1\.[0-9] ([1-5][0-9][0-9])(?: [^\r\n]*)?\r?\n")
END_OF_HEAD: Final = re.compile(rb"\n\r?\n")
LONGEST_END: Final = 3
"""Bytes that END_OF_HEAD matches at the most: so many are searched again when more comes."""
SWITCHING_PROTOCOLS: Final = 101
"""The one status below 200 that no other follows."""
