"""Opening a capture file: which format it is, and how far it has been read."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from sluicegate_agent.dpi.capture.model import NotACaptureError
from sluicegate_agent.dpi.capture.pcap import HEADER, MAGICS, PcapReader
from sluicegate_agent.dpi.capture.pcapng import SECTION_MAGIC, PcapngReader

Reader = PcapReader | PcapngReader

_OTHERS = {
    b"\x1f\x8b": ("is compressed with gzip", "gunzip it first"),
    b"\x28\xb5\x2f\xfd": ("is compressed with zstd", "unzstd it first"),
    b"\xfd7zXZ": ("is compressed with xz", "unxz it first"),
    b"BZh": ("is compressed with bzip2", "bunzip2 it first"),
    b"PK\x03\x04": ("is a ZIP archive", "unzip it first"),
    b"snoop\0": ("is a snoop capture", "convert it: editcap -F pcapng FILE OUT"),
    b"\x34\xcd\xb2\xa1": ("is a pcap of Kuznetzov's variant", "convert it: editcap -F pcapng FILE OUT"),
    b"\xa1\xb2\xcd\x34": ("is a pcap of Kuznetzov's variant", "convert it: editcap -F pcapng FILE OUT"),
}
_BUFFER = 1 << 20


def open_capture(file: BinaryIO, name: str) -> Reader:
    """A reader for the format that the file's first bytes say. Raises `NotACaptureError`.

    A file that ends inside its own header holds no packet, so it counts as one that cannot be read.
    """
    try:
        start = file.read(HEADER)
    except OSError as error:
        raise NotACaptureError(f"{name} cannot be read: {error.strerror}", "give a file, not a folder") from error
    if not start:
        raise NotACaptureError(f"{name} is empty", "give a capture: tcpdump -w FILE writes one")
    if start[:4] == SECTION_MAGIC and len(start) >= 12:
        return PcapngReader(file, start)
    if start[:4] in MAGICS:
        if len(start) < HEADER:
            raise NotACaptureError(f"{name} ends inside its header", "take the capture again: the file is cut off")
        return PcapReader(file, start)
    for magic, (what, remedy) in _OTHERS.items():
        if start.startswith(magic):
            raise NotACaptureError(f"{name} {what}", remedy)
    raise NotACaptureError(
        f"{name} is neither pcap nor pcapng: it begins with {start[:4].hex(' ')}",
        "give a capture: tcpdump -w FILE writes one",
    )


def open_file(path: Path) -> BinaryIO:
    """The file, buffered for long reads. Raises `NotACaptureError` when it cannot be opened."""
    try:
        return path.open("rb", buffering=_BUFFER)
    except IsADirectoryError as error:
        raise NotACaptureError(f"{path} is a folder", "give one capture file at a time") from error
    except OSError as error:
        raise NotACaptureError(
            f"{path} cannot be opened: {error.strerror}", "check the name and your rights"
        ) from error
