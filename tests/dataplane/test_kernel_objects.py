"""Maps, programs and links of the real kernel through libbpf."""

from __future__ import annotations

import errno
import struct

import pytest

from kernel_rig import add_veth, netns, pin_place
from sluicegate_agent.kernel.libbpf import (
    HZ,
    UPDATE_NEW,
    AttachType,
    BpfMap,
    KernelError,
    Link,
    MapType,
    Program,
    ProgramType,
    VerifierError,
    jiffies,
    possible_cpus,
    programs_at,
)

pytestmark = pytest.mark.kernel
__all__ = ["netns"]

PASS = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 2, 0x95, 0, 0, 0)  # r0 = 2; exit
DROP = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 1, 0x95, 0, 0, 0)
FRAME = bytes(range(60))


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def test_a_row_is_written_read_and_deleted() -> None:
    with BpfMap.create(MapType.HASH, "rows", 4, 8, 10) as rows:
        assert rows.lookup(u32(1)) is None
        rows.update(u32(1), b"12345678")
        assert rows.lookup(u32(1)) == b"12345678"
        assert list(rows.keys()) == [u32(1)]
        assert rows.delete(u32(1))
        assert not rows.delete(u32(1))


def test_an_error_names_the_map_the_key_and_the_reason() -> None:
    with BpfMap.create(MapType.HASH, "rows", 4, 8, 10) as rows:
        rows.update(u32(1), bytes(8), UPDATE_NEW)
        with pytest.raises(KernelError, match=r"write the map rows at 01000000: File exists \(EEXIST\)") as caught:
            rows.update(u32(1), bytes(8), UPDATE_NEW)
        assert caught.value.errno == errno.EEXIST


@pytest.mark.parametrize(("key", "value"), [(bytes(3), bytes(8)), (bytes(4), bytes(9))])
def test_a_key_or_value_of_the_wrong_length_never_reaches_the_kernel(key: bytes, value: bytes) -> None:
    with BpfMap.create(MapType.HASH, "rows", 4, 8, 10) as rows, pytest.raises(ValueError, match="rows: a "):
        rows.update(key, value)


@pytest.mark.parametrize("map_type", [MapType.HASH, MapType.LRU_HASH, MapType.ARRAY])
@pytest.mark.parametrize("chunk", [1, 100, 5000])
def test_batches_bring_every_row_once(map_type: MapType, chunk: int) -> None:
    count = 1000
    written = {u32(number): struct.pack("<Q", number) for number in range(count)}
    # An LRU map may evict long before it is full.
    with BpfMap.create(map_type, "rows", 4, 8, count * (64 if map_type is MapType.LRU_HASH else 1)) as rows:
        rows.update_batch(b"".join(written), b"".join(written.values()), count)
        read: dict[bytes, bytes] = {}
        for keys, values, got in rows.items_batch(chunk):
            assert len(keys) == got * 4
            assert len(values) == got * 8
            read |= {keys[at * 4 : at * 4 + 4]: values[at * 8 : at * 8 + 8] for at in range(got)}
        assert read == written


def test_an_empty_map_has_no_batches() -> None:
    with BpfMap.create(MapType.HASH, "rows", 4, 8, 10) as rows:
        assert list(rows.items_batch()) == []
        rows.update_batch(b"", b"", 0)


def test_a_per_cpu_map_keeps_one_padded_value_per_cpu() -> None:
    with BpfMap.create(MapType.PERCPU_ARRAY, "counts", 4, 12, 3) as counts:
        value = counts.lookup(u32(2))
        assert value == bytes(16 * possible_cpus())
        [(_, values, count)] = list(counts.items_batch())
        assert (len(values), count) == (3 * 16 * possible_cpus(), 3)


def test_the_inner_map_of_a_map_of_maps_is_swapped_whole() -> None:
    flag = 0x1000  # BPF_F_INNER_MAP: tables of different length in one outer map
    with (
        BpfMap.create(MapType.ARRAY, "template", 4, 4, 1, flags=flag) as template,
        BpfMap.create(MapType.ARRAY_OF_MAPS, "outer", 4, 4, 2, inner_fd=template.fd) as outer,
        BpfMap.create(MapType.ARRAY, "table", 4, 4, 4093, flags=flag) as table,
    ):
        outer.update(u32(1), u32(table.fd))
        found = outer.lookup(u32(1))
        assert found is not None
        with BpfMap.from_id(struct.unpack("<I", found)[0]) as inner:
            assert inner.info == table.info
        assert outer.lookup(u32(0)) is None


def test_a_pinned_map_outlives_its_descriptor() -> None:
    with pin_place() as place:
        with BpfMap.create(MapType.HASH, "rows", 4, 8, 10) as rows:
            rows.update(u32(1), b"12345678")
            rows.pin(place / "rows")
        with BpfMap.open(place / "rows") as rows:
            assert rows.lookup(u32(1)) == b"12345678"
        with pytest.raises(KernelError, match=r"open the map pinned as .*nothing: No such file"):
            BpfMap.open(place / "nothing")


def test_a_program_runs_on_a_packet_and_returns_it() -> None:
    with Program.load(ProgramType.XDP, "pass", PASS) as program:
        result = program.test_run(FRAME, cpu=possible_cpus() - 1)
        assert (result.retval, result.data, result.ctx) == (2, FRAME, b"")
        info = program.info
        assert (info.name, info.xlated_len, info.verified_insns) == ("pass", len(PASS), 2)
        assert len(info.tag) == 16


def test_a_tc_program_returns_its_context() -> None:
    mark_7 = struct.pack("<BBhi", 0x62, 1, 8, 7)  # *(u32 *)(r1 + 8) = 7: skb->mark
    with Program.load(ProgramType.SCHED_CLS, "mark", mark_7 + PASS) as program:
        result = program.test_run(FRAME, ctx=bytes(192))
        assert struct.unpack_from("<I", result.ctx, 8) == (7,)


def test_a_rejected_program_comes_with_the_verifiers_reason() -> None:
    with pytest.raises(VerifierError) as caught:
        Program.load(ProgramType.XDP, "bad", struct.pack("<BBhi", 0x95, 0, 0, 0))
    assert "R0 !read_ok" in caught.value.tail(3)


def test_jiffies_are_the_kernels_and_move_with_hz() -> None:
    # /proc/timer_list is not everywhere; between two readings no more time can pass than the clock says.
    before, after = jiffies(), jiffies()
    assert 0 <= (after - before) & 0xFFFFFFFF < 10 * HZ
    assert HZ in {100, 250, 300, 1000}


def test_a_link_replaces_its_program_atomically_and_says_where_it_is(netns: str) -> None:
    ifindex = add_veth("sgt0")
    with (
        Program.load(ProgramType.XDP, "one", PASS) as one,
        Program.load(ProgramType.XDP, "two", DROP) as two,
        Link.create(one, ifindex, AttachType.XDP) as link,
    ):
        assert (link.info.ifindex, link.info.prog_id, link.info.attach_type) == (ifindex, one.info.id, AttachType.XDP)
        link.update(two)
        assert link.info.prog_id == two.info.id
        assert programs_at(ifindex, AttachType.XDP) == (two.info.id,)
        link.detach()
        assert link.info.ifindex == 0
        assert programs_at(ifindex, AttachType.XDP) == ()


def test_a_pinned_tcx_link_stays_when_its_descriptor_is_closed(netns: str) -> None:
    ifindex = add_veth("sgt0")
    with pin_place() as place, Program.load(ProgramType.SCHED_CLS, "one", PASS) as one:
        with Link.create(one, ifindex, AttachType.TCX_INGRESS) as link:
            link.pin(place / "link")
        assert programs_at(ifindex, AttachType.TCX_INGRESS) == (one.info.id,)
        with Link.open(place / "link") as again:
            again.detach()  # unpinning alone lets the kernel take its time
        assert programs_at(ifindex, AttachType.TCX_INGRESS) == ()


def test_an_interface_that_is_not_there_has_no_programs() -> None:
    assert programs_at(2**30, AttachType.TCX_INGRESS) == programs_at(2**30, AttachType.XDP) == ()
