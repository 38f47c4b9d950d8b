"""What the kernel's tables cost, from their declarations."""

from dataclasses import replace
from pathlib import Path

import pytest

from sluicegate_agent.loader.request import Hook, LoadRequest, Unit
from sluicegate_agent.programs import FEATURES, request
from sluicegate_agent.reports.map_memory import MapMemory, map_memory, selection_table_bytes
from sluicegate_agent.settings import load_settings


def of(tmp_path: Path, text: str, cpus: int = 2, **sizes: int) -> dict[str, MapMemory]:
    (tmp_path / "x.c").write_text(text, encoding="utf-8")
    asked = LoadRequest(tmp_path, tmp_path, sizes, units=(Unit("x.c", Hook.XDP, ("f",)),))
    return {row.name: row for row in map_memory(asked, cpus)}


def test_every_table_of_the_programs_is_told_with_its_size() -> None:
    asked = request(load_settings(), Path("/pins"), frozenset(FEATURES))
    rows = {row.name: row for row in map_memory(asked, 2)}
    assert {
        "flows4",
        "flows6",
        "nat4",
        "nat6",
        "backends",
        "tables",
        "sources6",
        "verdicts",
        "scratch_tc",
    } <= rows.keys()
    assert "slots_template" not in rows
    assert rows["flows4"].entries == asked.sizes["FLOWS"]
    assert all(0 <= row.bytes <= row.full for row in rows.values())
    assert rows["nat4"].bytes < rows["nat4"].full


def test_settings_change_the_sizes() -> None:
    small = request(load_settings(flows=1024), Path("/pins"), frozenset())
    large = replace(small, sizes={**small.sizes, "FLOWS": 4 * 1024})
    before, after = ({row.name: row.full for row in map_memory(each, 2)} for each in (small, large))
    assert 3.5 < after["flows6"] / before["flows6"] < 4.5
    assert after["nat6"] == before["nat6"]


def test_structs_are_laid_out_as_the_compiler_does(tmp_path: Path) -> None:
    text = """
    #define WORDS 3   /* of a key */
    struct part { u8 a; u16 b; };
    struct value { u8 a; u64 b; struct part c[2]; u32 words[WORDS]; /* 1 + 7 + 8 + 8 + 12 + 4 */ };
    BPF_TABLE("array", u32, struct value, things, 10 * WORDS);
    """
    assert of(tmp_path, text)["things"] == MapMemory("things", "array", 30, 312 + 30 * 40, 312 + 30 * 40)


def test_counters_are_kept_for_every_cpu(tmp_path: Path) -> None:
    text = 'enum hook { A = 0, B = 4, HOOK_COUNT };\nBPF_TABLE("percpu_array", u32, u32, counts, HOOK_COUNT * 2);'
    assert of(tmp_path, text, cpus=4)["counts"].bytes == 312 + 10 * (8 + 4 * 8)


def test_a_table_that_grows_costs_little_at_first(tmp_path: Path) -> None:
    text = 'BPF_F_TABLE("lpm_trie", struct k, u32, nets, NETS, BPF_F_NO_PREALLOC);\nstruct k { u32 length; u32 a; };'
    row = of(tmp_path, text, NETS=100)["nets"]
    assert (row.bytes, row.full) == (0, 100 * (24 + 4 + 4))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('BPF_TABLE("array", u32, struct gone, things, 1);', "no struct gone"),
        ('BPF_TABLE("array", u32, u32, things, SIZE);', "SIZE is not known"),
        ('BPF_TABLE("array", u32, u32, things, 1 << 4);', "not a product"),
        ('BPF_TABLE("stack", u32, u32, things, 1);', "type stack"),
        ('struct s { u32 a : 3; };\nBPF_TABLE("array", u32, struct s, things, 1);', "not understood"),
    ],
)
def test_what_is_not_understood_is_an_error_and_never_a_wrong_figure(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        of(tmp_path, text)


def test_an_empty_selection_table_costs_nothing() -> None:
    assert selection_table_bytes(0) == 0
    assert selection_table_bytes(4093) == 312 + 8 * 4093
