"""`twofold models` on a real MLflow store: what each command says, moves and refuses."""

import json

import pytest

from tests import models_case
from tests.models_case import WHY, aliases, entries
from twofold import registry


@pytest.fixture(scope="module")
def made(empty_store, tmp_path_factory):
    return models_case.make(empty_store, tmp_path_factory.mktemp("models"))


@pytest.fixture
def store(made, monkeypatch):
    return models_case.fresh(made[0], monkeypatch)


@pytest.fixture
def models(store, capsys):
    return models_case.runner(capsys)


def tag(store, version, key, value):
    store.client.set_model_version_tag("corner", version, key, value)


def test_the_list_says_what_each_version_is_and_hides_the_locks(models, store):
    status, text = models("list", "--json")
    found = json.loads(text)
    assert status == 0
    assert [(each["version"], each["standing"]) for each in found] == [
        (3, "challenger"),
        (2, "champion"),
        (1, "was champion"),
    ]
    assert {each["figures"]["accuracy"] for each in found} == {5 / 7}
    assert {each["n"] for each in found} == {7}
    lines = models("list")[1].splitlines()
    assert len(lines) == 4
    assert lines[2].split()[:5] == ["2", "champion", "0.714", "0.667", "0.833"]
    assert len(store.client.search_registered_models("name LIKE 'twofold.lock.%'")) == 1


def test_a_store_without_versions_has_an_empty_list(models, capsys):
    assert models("list", "--name", "nothing") == (0, "'nothing' has no version yet\n")
    status, text = models("show", "1", "--name", "nothing")
    assert (status, "'nothing' has no version in this store; see MLFLOW_TRACKING_URI" in text) == (1, True)


def test_show_has_gates_figures_decisions_lineage_and_links(models, store):
    status, text = models("show", "champion", "--json")
    found = json.loads(text)
    assert (status, found["version"], found["standing"], found["judged_against"]) == (0, 2, "champion", "1")
    assert [(gate["figure"], gate["passed"], gate["against"]) for gate in found["gates"]] == [
        ("accuracy", True, None),
        ("roc_auc", True, "1"),
    ]
    assert found["conditions"]["reference_since"] == 1
    assert [entry["action"] for entry in found["decisions"]] == ["promote"]
    lineage = found["lineage"]
    assert set(lineage["git"]) == {"commit", "changed"}
    assert lineage["base_sha256"] == "b" * 64
    assert lineage["libraries"]["torch"].startswith("2.")
    assert lineage["hardware"]["device"] == "cpu"
    assert found["links"]["run"].endswith(store.client.get_model_version("corner", "2").run_id)
    text = models("show", "2")[1]
    for words in ("gates (held against version 1)", "passed          accuracy at least 0.7", "git commit", "make ui"):
        assert words in text


@pytest.mark.parametrize("which", ["4", "0", "-1", "x", "latest"])
def test_a_version_that_is_not_there_is_answered_with_those_that_are(models, which):
    status, text = models("show", "--", which)
    assert status == 1
    assert f"has no version '{which}'; there are 1, 2, 3, and by alias champion (2), challenger (3)" in text


def test_compare_sets_two_versions_beside_each_other_on_the_images_of_both(models):
    status, text = models("compare", "1", "champion", "--json")
    found = json.loads(text)
    assert (status, found["versions"], found["same_test"]) == (0, [1, 2], True)
    same = found["same_images"]
    assert (same["n"], same["n_positive"]) == (7, 3)
    assert (same["mcnemar"]["candidate_only"], same["mcnemar"]["champion_only"]) == (0, 0)
    assert same["figures"]["roc_auc"]["difference"] == 0
    assert found["made_differently"]["params.finetune_all.seed"] == [8.0, 9.0]
    text = models("compare", "1", "2")[1]
    assert "on 7 images, the test images of both" in text
    assert "version 1 (was champion)  version 2 (champion)  difference  95 % interval" in text


def test_approve_promotes_with_who_when_and_why_after_judging_again(models, store):
    status, text = models("approve", "--json", *WHY)
    found = json.loads(text)
    assert (status, found["promoted"], found["version"]) == (0, True, 3)
    assert [gate["passed"] for gate in found["gates"]] == [True, True]
    assert found["comparison"]["version"] == 2
    assert aliases(store) == {"champion": 3}
    assert entries(store)[-1] == ("promote", 3, 2, "ann", "because")
    version = store.client.get_model_version("corner", "3")
    assert version.tags[registry.JUDGED_AGAINST] == "2"
    assert json.loads(version.tags["twofold.best"]) == {}
    status, text = models("approve", "3", *WHY)
    assert (status, "version 3 of 'corner' is the champion already" in text) == (1, True)


def test_approve_holds_a_version_against_the_champion_of_the_moment(models, store):
    assert models("rollback", "1", "--unasked", *WHY)[0] == 0
    assert models("approve", "challenger", *WHY)[0] == 0
    assert entries(store)[-1][:3] == ("promote", 3, 1)
    assert store.client.get_model_version("corner", "3").tags[registry.JUDGED_AGAINST] == "1"


def test_approve_says_which_gate_is_not_passed_and_moves_nothing(models, store):
    gates = [{"figure": "accuracy", "min": 0.7}, {"figure": "roc_auc", "non_inferior_by": 0.1}]
    tag(store, "3", registry.CONDITIONS, json.dumps({"gates": gates, "reference_since": 1}))
    status, text = models("approve", *WHY)
    assert status == 1
    assert "FAILED          roc_auc worse than the champion by less than 0.1" in text
    assert "not promoted:" in text
    assert aliases(store) == {"champion": 2, "challenger": 3}
    assert len(entries(store)) == 3


@pytest.mark.parametrize("command", ["approve", "reject", "rollback"])
def test_a_decision_needs_a_reason(models, store, command):
    assert models(command)[0] == 2
    status, text = models(command, "--reason", " ", "--actor", "ann", *(["1", "--unasked"] * (command == "rollback")))
    assert (status, "reason: must be 1 to 2000 characters and not blank" in text) == (1, True)
    assert (aliases(store), len(entries(store))) == ({"champion": 2, "challenger": 3}, 3)


def test_reject_takes_the_challenger_off_and_is_not_for_the_champion(models, store):
    status, text = models("reject", *WHY)
    assert (status, "version 3 of 'corner' is rejected" in text) == (0, True)
    assert (aliases(store), entries(store)[-1]) == ({"champion": 2}, ("reject", 3, 2, "ann", "because"))
    assert json.loads(models("list", "--json")[1])[0]["standing"] == "rejected"
    status, text = models("reject", *WHY)
    assert (status, "has no version 'challenger'" in text) == (1, True)
    status, text = models("reject", "champion", *WHY)
    assert (status, "take it back with `twofold models rollback`" in text) == (1, True)


def test_a_challenger_that_was_deleted_in_mlflow_can_be_rejected(models, store):
    store.client.delete_model_version("corner", "3")
    assert models("reject", "3", *WHY)[0] == 0
    assert entries(store)[-1][:2] == ("reject", 3)


def test_rollback_asks_the_old_version_about_its_images_first(models, store, made):
    status, text = models("rollback", *WHY)
    assert status == 1
    assert "sealed without images to ask it about, only with the SHA-256 of 7 (evaluate.pictures is false)" in text
    assert aliases(store)["champion"] == 2
    status, text = models("rollback", "--data", str(made[1]), *WHY)
    assert status == 0
    assert "asked about 7 of the 7 images sealed with it" in text
    assert (aliases(store)["champion"], entries(store)[-1]) == (1, ("rollback", 1, 2, "ann", "because"))


def test_rollback_without_images_is_possible_and_on_record(models, store):
    status, text = models("rollback", "1", "--unasked", *WHY)
    assert (status, "it was asked about no image, by --unasked" in text) == (0, True)
    assert "[its seal and files were checked; it was asked about no image, by --unasked]" in models("history")[1]


def test_rollback_to_no_model_and_back(models, store):
    assert models("rollback", "none", *WHY)[0] == 0
    assert aliases(store) == {"challenger": 3}
    status, text = models("rollback", "none", *WHY)
    assert (status, "has no champion: there is nothing to take back" in text) == (1, True)
    assert models("rollback", "--unasked", *WHY)[0] == 0
    assert aliases(store)["champion"] == 2


def test_rollback_is_for_what_was_champion(models):
    status, text = models("rollback", "3", *WHY)
    assert status == 1
    assert "version 3 of 'corner' was never its champion (those were: 1)" in text
    status, text = models("rollback", "2", *WHY)
    assert (status, "is the champion already" in text) == (1, True)


@pytest.mark.parametrize("damage", ["altered", "gone"])
def test_a_version_whose_files_are_not_what_was_sealed_does_not_come_back(models, store, made, damage):
    where = store.client.get_model_version("corner", "1").tags[registry.SEAL]
    (folder,) = [path for path in made[0].rglob("artifacts/sealed") if sha256(path / "seal.json") == where]
    weights = folder / "model.safetensors"
    if damage == "gone":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    status, text = models("rollback", "1", "--data", str(made[1]), *WHY)
    assert (status, "version 1 cannot be made champion again" in text) == (1, True)
    assert (aliases(store)["champion"], len(entries(store))) == (2, 3)


def sha256(path):
    from twofold.artifacts import file_sha256

    return file_sha256(path)


def test_a_version_that_says_something_else_than_it_did_does_not_come_back(models, store, made, monkeypatch):
    from twofold import temperature

    monkeypatch.setattr("twofold.sealed.calibrated", lambda found, by: temperature.calibrated(found, by) * 0.999)
    status, text = models("rollback", "1", "--data", str(made[1]), *WHY)
    assert (status, "its probabilities differ by up to 0.00" in text) == (1, True)
    assert aliases(store)["champion"] == 2


def test_history_shows_every_decision_and_finds_what_was_changed(models, store):
    status, text = models("history")
    assert status == 0
    assert [line.split()[2:5] for line in text.splitlines()] == [
        ["promote", "version", "1,"],
        ["promote", "version", "2,"],
        ["challenge", "version", "3,"],
    ]
    found = json.loads(models("history", "--json")[1])
    assert (found["problems"], found["unfinished"]) == ([], False)
    assert [entry["previous"] for entry in found["entries"]] == ["", *(e["sha256"] for e in found["entries"][:-1])]
    (second,) = [key for key in store.client.get_registered_model("corner").tags if ".000002." in key]
    store.client.delete_registered_model_tag("corner", second)
    status, text = models("history")
    assert (status, "WRONG: entry 2 is missing" in text) == (1, True)
    status, text = models("history", "--repair")
    assert (status, "the ledger of 'corner' is damaged: entry 2 is missing" in text) == (1, True)
    assert models("history", "--repair", "--reason", "lost in a migration", "--actor", "ann")[0] == 0
    status, text = models("history")
    assert (status, "acknowledged: entry 2 is missing" in text, "WRONG" in text) == (0, True, False)


def test_history_repair_sets_the_aliases_as_the_ledger_says(models, store):
    store.client.set_registered_model_alias("corner", "champion", "3")
    store.client.delete_registered_model_alias("corner", "challenger")
    status, text = models("history")
    assert (status, text.count("WRONG: the alias")) == (1, 2)
    status, text = models("approve", *WHY)
    assert (status, "someone has moved it in MLflow" in text) == (1, True)
    status, text = models("history", "--repair")
    assert status == 0
    assert "repaired: 'champion' moved from version 3 to 2" in text
    assert aliases(store) == {"champion": 2, "challenger": 3}
    assert "nothing to repair" in models("history", "--repair")[1]
    assert models("history", "--reason", "x")[0] == 1


def test_the_actor_is_gits_user_unless_one_is_named(models, store, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_COUNT", "2")
    for number, (key, value) in enumerate((("user.name", "Ada"), ("user.email", "ada@example.org"))):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", key)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", value)
    assert models("reject", "--reason", "too slow")[0] == 0
    assert entries(store)[-1][3] == "Ada <ada@example.org>"


def test_the_models_name_is_that_of_params_yaml(store, capsys, tmp_path):
    from twofold import cli

    (tmp_path / "params.yaml").write_text("register: {model_name: corner}\n")
    with pytest.raises(SystemExit) as ended:
        cli.main(["models", "list", "--params", str(tmp_path / "params.yaml")])
    assert (ended.value.code, len(capsys.readouterr().out.splitlines())) == (0, 4)
