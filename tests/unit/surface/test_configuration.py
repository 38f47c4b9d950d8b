"""From files to the configuration: the last good version of each object, and who holds which VIP."""

from pathlib import Path

import pytest
from surface_moments import configured, document, files

from sluicegate_agent.source.configuration import Configuration, configure
from sluicegate_agent.source.files import Files
from sluicegate_agent.source.store import ConfigurationStore
from sluicegate_api.common import ObjectKey

WEB, API = ObjectKey("shop", "web"), ObjectKey("shop", "api")
SNIFFER = """
apiVersion: sluicegate.io/v1alpha1
kind: DpiSniffer
metadata: {name: web, namespace: shop}
spec: {}
"""
OTHER_VIP = {"addresses": ["203.0.113.20"]}


def keys(configuration: Configuration) -> list[str]:
    return [entry.object.key.name for entry in configuration.accepted]


def weight(configuration: Configuration, key: ObjectKey = WEB) -> int | None:
    balancer = configuration.object(key)
    assert balancer is not None
    static = balancer.spec.backends.static
    return static[0].weight if static else None


def test_a_bad_edit_is_reported_and_the_last_good_version_stays() -> None:
    before = configured(document(), document("api", **OTHER_VIP))
    after = configured(document(colour="red"), document("api", **OTHER_VIP), previous=before)
    assert after.object(WEB) == before.object(WEB)
    assert after.object_problems[WEB][0].startswith("spec.colour: ")
    assert after.problem_lines[0].startswith("a.yaml: LoadBalancer shop/web: spec.colour: ")
    assert not after.refused_objects


def test_good_edits_beside_a_bad_one_take_effect() -> None:
    before = configured(document(), document("api", **OTHER_VIP))
    backends = {"static": [{"address": "10.0.0.1", "weight": 7}]}
    after = configured(document(colour="red"), document("api", **OTHER_VIP, backends=backends), previous=before)
    assert weight(after, API) == 7
    assert weight(after) == 100


def test_a_removed_document_removes_its_object_even_when_another_one_is_bad() -> None:
    before = configured(document(), document("api", **OTHER_VIP))
    after = configured(document(colour="red"), previous=before)
    assert keys(after) == ["web"]


@pytest.mark.parametrize("text", ["{", "just words", "- a\n- list", "kind: [", "a: b\n\ta: c"])
def test_a_text_whose_objects_cannot_be_told_keeps_all_of_its_file(text: str) -> None:
    before = configured(document(), document("api", **OTHER_VIP))
    after = configured(text, previous=before)
    assert keys(after) == ["web", "api"]
    assert after.problem_lines


def test_an_object_whose_name_was_broken_by_the_edit_stays() -> None:
    before = configured(document())
    assert keys(configured(document("Web!"), previous=before)) == ["web"]


def test_another_kind_that_cannot_be_used_keeps_nothing_alive() -> None:
    before = configured(document(), document("api", **OTHER_VIP))
    after = configured(document(), SNIFFER.replace("{}", "{paused: 1}"), previous=before)
    assert keys(after) == ["web"]
    assert "spec.paused" in after.problem_lines[0]


def test_a_vanished_file_removes_its_objects_and_an_unreadable_one_keeps_them() -> None:
    before = configure(files(a=document(), b=document("api", **OTHER_VIP)), Configuration())
    gone = configure(Files({"a.yaml": document()}, missing=("b.yaml",)), before)
    assert keys(gone) == ["web"]
    unreadable = configure(Files({"a.yaml": document()}, unreadable={"b.yaml": "Permission denied"}), before)
    assert keys(unreadable) == ["web", "api"]
    assert unreadable.problem_lines == ("b.yaml: Permission denied; what was read from it before stays in force",)


def test_an_object_that_moves_to_another_file_moves() -> None:
    before = configure(files(a=document()), Configuration())
    after = configure(files(b=document()), before)
    assert [entry.source for entry in after.accepted] == ["b.yaml"]


def test_an_object_that_was_never_valid_is_named_with_its_file() -> None:
    after = configured(document(colour="red"))
    assert after.accepted == ()
    assert after.refused_objects == ((WEB, "a.yaml"),)


def test_who_holds_a_vip_keeps_it_against_an_earlier_file() -> None:
    before = configure(files(b=document("late")), Configuration())
    after = configure(files(a=document("early"), b=document("late")), before)
    effective = after.effective()
    assert [each.key.name for each in effective] == ["late"]
    assert any("shop/early" in line and "held by LoadBalancer shop/late" in line for line in after.problem_lines)


def test_without_a_holder_the_order_of_the_files_decides() -> None:
    after = configure(files(a=document("early"), b=document("late")), Configuration())
    assert [each.key.name for each in after.effective()] == ["early"]


def test_what_an_object_holds_beside_a_lost_vip_port_works() -> None:
    both = {
        "addresses": ["203.0.113.10", "203.0.113.11"],
        "ports": [{"name": "http", "port": 80}, {"name": "https", "port": 443}],
    }
    after = configured(document(), document("api", **both))
    parts = [each for each in after.effective() if each.key == API]
    served = {
        (str(address), port.port) for part in parts for port in part.spec.ports for address in part.spec.addresses
    }
    assert served == {("203.0.113.11", 80), ("203.0.113.10", 443), ("203.0.113.11", 443)}
    labels = [port.label for part in parts for port in part.spec.ports]
    assert len(labels) == len(set(labels))


def test_a_paused_object_keeps_the_version_before_the_pause() -> None:
    before = configured(document())
    backends = {"static": [{"address": "10.0.0.1", "weight": 7}]}
    paused = configured(document(paused=True, backends=backends), previous=before)
    assert weight(paused) == 100
    assert paused.paused == {WEB}
    resumed = configured(document(backends=backends), previous=paused)
    assert weight(resumed) == 7
    assert not resumed.paused


def test_an_object_that_is_paused_from_the_start_does_not_run() -> None:
    after = configured(document(paused=True))
    assert keys(after) == ["web"]
    assert after.effective() == ()


def test_a_restart_beside_a_broken_file_takes_nothing_away(tmp_path: Path) -> None:
    store = ConfigurationStore(tmp_path)
    before = configure(files(b=document("late")), Configuration())
    store.save(configure(files(a=document("early"), b=document("late")), before))
    loaded = store.load()
    after = configure(files(a="{", b=document("late")), loaded)
    assert keys(after) == ["early", "late"]
    assert [each.key.name for each in after.effective()] == ["late"]
    assert after.object(ObjectKey("shop", "early")) == loaded.object(ObjectKey("shop", "early"))


@pytest.mark.parametrize("text", ["", "{}", "nonsense", '{"format": 99, "entries": [], "holders": []}'])
def test_a_stored_configuration_that_makes_no_sense_is_left_aside(tmp_path: Path, text: str) -> None:
    (tmp_path / "configuration.json").write_text(text)
    assert ConfigurationStore(tmp_path).load() == Configuration()


def test_a_store_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ConfigurationStore(tmp_path / "missing").save(configured(document()))
    assert "cannot keep the configuration" in caplog.text


def sniffers(configuration: Configuration) -> list[str]:
    return [entry.object.key.name for entry in configuration.sniffers.accepted]


def test_a_sniffer_may_have_the_name_of_a_load_balancer() -> None:
    configuration = configured(document(), SNIFFER)
    assert keys(configuration) == sniffers(configuration) == ["web"]
    assert not configuration.problem_lines
    assert [each.object.key for each in configuration.running_sniffers()] == [WEB]


def test_a_wrong_sniffer_leaves_its_last_good_version() -> None:
    before = configured(document(), SNIFFER.replace("{}", "{budget: {maxPackets: 99}}"))
    after = configured(document(), SNIFFER.replace("{}", "{paused: 1}"), previous=before)
    kept = after.sniffers.object(WEB)
    assert kept is not None
    assert kept.spec.budget.max_packets == 99
    assert after.sniffers.problems[WEB][0].startswith("spec.paused: ")
    assert not after.object_problems
    assert not after.sniffers.refused


def test_a_sniffer_that_was_never_valid_is_refused_with_its_file() -> None:
    after = configured(document(), SNIFFER.replace("{}", "{attach: {podSelector: {}}}"))
    assert after.sniffers.refused == ((WEB, "a.yaml"),)
    assert "sniffing at pods is not supported here yet" in after.sniffers.problems[WEB][0]
    assert not after.refused_objects


def test_a_paused_sniffer_keeps_what_ran_and_one_paused_from_the_start_does_not_run() -> None:
    fresh = configured(SNIFFER.replace("{}", "{paused: true}"))
    assert fresh.running_sniffers() == ()
    before = configured(SNIFFER)
    after = configured(SNIFFER.replace("{}", "{paused: true, budget: {maxPackets: 99}}"), previous=before)
    assert after.running_sniffers() == before.running_sniffers()
    assert after.sniffers.paused == {WEB}


def test_sniffers_survive_a_restart_beside_a_broken_file(tmp_path: Path) -> None:
    store = ConfigurationStore(tmp_path)
    store.save(configured(document(), SNIFFER))
    after = configured("{", previous=store.load())
    assert sniffers(after) == ["web"]


def test_a_wrong_sniffer_keeps_no_load_balancer_of_its_name() -> None:
    before = configured(document())
    after = configured(SNIFFER.replace("{}", "{paused: 1}"), previous=before)
    assert keys(after) == []
    assert "spec.paused" in after.problem_lines[0]
