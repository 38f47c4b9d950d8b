"""Capture files: formats, byte orders, clocks, and what becomes of damaged ones."""

from __future__ import annotations

import io
import struct

import pytest
from captures import SECOND, START, block, enhanced, interface, opened, pcap, read, section
from hypothesis import given
from hypothesis import strategies as st

from sluicegate_agent.dpi.capture.files import open_capture
from sluicegate_agent.dpi.capture.model import NotACaptureError

FRAMES = [b"first frame", b"second", b"x" * 1500]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nanoseconds", [False, True])
def test_pcap_of_both_byte_orders_and_clocks_gives_frames_and_times(order: str, nanoseconds: bool) -> None:
    packets, reader = read(pcap(FRAMES, order=order, nanoseconds=nanoseconds, step_ns=1_001_000))
    assert [packet.data for packet in packets] == FRAMES
    assert [packet.time - START * SECOND for packet in packets] == [0, 1_001_000, 2_002_000]
    assert {packet.link for packet in packets} == {1}
    assert reader.ending.whole


def test_pcap_keeps_a_nanosecond_and_ignores_the_length_of_a_check_sequence() -> None:
    packets, _ = read(pcap(FRAMES[:2], nanoseconds=True, step_ns=1, link=0x5400_0001))
    assert packets[1].time - packets[0].time == 1
    assert packets[0].link == 1


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng_resolves_times_by_interface(order: str) -> None:
    data = section(order)
    data += interface(1, name="eth0", order=order) + interface(101, name="tun0", resolution=9, order=order)
    data += interface(113, resolution=0x80 | 10, order=order)
    data += enhanced(0, 5_000_000, b"micro", order) + enhanced(1, 5_000_000_001, b"nano", order)
    data += enhanced(2, 5 * 1024 + 512, b"binary", order)
    packets, reader = read(data)
    assert [packet.time for packet in packets] == [5 * SECOND, 5 * SECOND + 1, 5 * SECOND + SECOND // 2]
    assert [packet.link for packet in packets] == [1, 101, 113]
    assert [packet.data for packet in packets] == [b"micro", b"nano", b"binary"]
    assert reader.interfaces == ("eth0", "tun0", "")
    assert reader.ending.whole


def test_pcapng_has_interfaces_of_their_own_in_each_section_and_skips_unknown_blocks() -> None:
    data = section() + interface(1, name="a") + enhanced(0, 1, b"one")
    data += block(0xBAD, b"whatever this is" * 10_000)
    data += section(">") + interface(101, name="b", order=">") + enhanced(0, 2, b"two", ">")
    packets, reader = read(data)
    assert [(packet.link, packet.interface, packet.data) for packet in packets] == [(1, 0, b"one"), (101, 1, b"two")]
    assert reader.interfaces == ("a", "b")


def test_pcapng_simple_and_obsolete_packet_blocks_are_read() -> None:
    obsolete = block(2, struct.pack("<HHIIII", 0, 0, 0, 7_000_000, 3, 60) + b"old")
    simple = block(3, struct.pack("<I", 6) + b"simple")
    packets, _ = read(section() + interface() + obsolete + simple)
    assert [packet.data for packet in packets] == [b"old", b"simple"]
    assert packets[0].wire_length == 60
    assert packets[0].time == packets[1].time == 7 * SECOND


def test_pcapng_packet_of_an_unknown_interface_is_counted_and_what_follows_is_read() -> None:
    data = section() + interface() + enhanced(7, 1, b"lost") + enhanced(0, 1, b"longer", length=4000)
    packets, reader = read(data + enhanced(0, 2, b"kept"))
    assert [packet.data for packet in packets] == [b"kept"]
    assert reader.damaged == 2
    assert reader.ending.whole


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (pcap(FRAMES)[:-1], "cut off inside a packet: 1499 of 1500 bytes are there"),
        (pcap(FRAMES) + b"abc", "cut off inside a record's header"),
        (pcap(FRAMES) + struct.pack("<IIII", 0, 0, 300_000, 300_000), "claims 300000 bytes"),
        (section() + interface() + enhanced(0, 1, b"one")[:-2], "cut off inside a block"),
        (section() + struct.pack("<III", 6, 4, 4), "claims a length of 4 bytes"),
        (section() + struct.pack("<II", 6, 1 << 30), "claims 1073741824 bytes"),
        (section() + block(99, b"")[:-4] + struct.pack("<I", 16), "ends with a length of 16"),
        (section() + block(0x0A0D0D0A, bytes(16)), "unknown byte order"),
        (section() + block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 2, 0, -1)), "version 2.0"),
        (section() + block(1, b"abc"), "an interface's block is too short"),
    ],
)
def test_a_damaged_file_ends_with_a_clear_word_and_keeps_what_was_read(data: bytes, words: str) -> None:
    _, reader = read(data)
    assert words in reader.ending.reason
    assert not reader.ending.whole
    assert str(reader.ending).endswith(f"at byte {reader.ending.offset}")


def test_a_cut_capture_keeps_every_packet_before_the_cut() -> None:
    whole = pcap(FRAMES)
    for length in range(24, len(whole)):
        packets, reader = read(whole[:length])
        assert [packet.data for packet in packets] == FRAMES[: len(packets)]
        assert reader.ending.whole == (length in {24, 24 + 16 + 11, 24 + 16 + 11 + 16 + 6})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"GET / HTTP/1.1\r\n", "neither pcap nor pcapng: it begins with 47 45 54 20"),
        (b"\x1f\x8b\x08\0", "compressed with gzip"),
        (pcap([])[:20], "ends inside its header"),
    ],
)
def test_what_is_no_capture_is_refused_with_a_remedy(data: bytes, words: str) -> None:
    with pytest.raises(NotACaptureError) as caught:
        opened(data)
    assert words in caught.value.message
    assert caught.value.remedy


@given(st.sampled_from([b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\x3c\x4d", section() + interface()]), st.binary(max_size=400))
def test_no_bytes_behind_a_valid_beginning_raise(start: bytes, rest: bytes) -> None:
    try:
        reader = open_capture(io.BytesIO(start + rest), "fuzz")
    except NotACaptureError:
        return
    assert sum(len(packet.data) for packet in reader) <= len(rest)
