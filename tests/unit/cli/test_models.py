"""`twofold models list`, `show`, `compare` and `history` on a real MLflow store."""

import json

import pytest

from tests.support.models_case import WHY, aliases, entries
from twofold.cli import main
from twofold.metrics.number_format import NOTHING
from twofold.registry.lineage import LINEAGE
from twofold.tracking.registry_client import FIGURES


def test_list_shows_the_status_of_each_version_and_hides_the_locks(models, models_store):
    status, text = models("list", "--json")
    found = json.loads(text)
    assert status == 0
    statuses = {each["version"]: each["standing"] for each in found}
    assert list(statuses.items()) == [(3, "challenger"), (2, "champion"), (1, "was champion")]
    assert {each["figures"]["accuracy"] for each in found} == {5 / 7}
    assert {each["n"] for each in found} == {7}
    lines = models("list")[1].splitlines()
    assert len(lines) == 4
    assert lines[2].split()[:5] == ["2", "champion", "0.714", "0.667", "0.833"]
    assert len(models_store.client.search_registered_models("name LIKE 'twofold.lock.%'")) == 1


def foreign(client, **more):
    """Create a version that Twofold did not make."""
    return client.create_model_version("corner", "s3://elsewhere/model", **more).version


def test_versions_that_twofold_did_not_make_are_listed_as_such(models, models_store):
    client = models_store.client
    run = client.create_run("0").info.run_id
    for key, value in (("accuracy", 0.999), ("n", float("nan")), ("other", 1.0)):
        client.log_metric(run, key, value)
    gone = client.create_run("0").info.run_id
    client.delete_run(gone)
    client.delete_model_version_tag("corner", "1", FIGURES)
    client.set_model_version_tag("corner", "3", FIGURES, '{"roc_auc": 0.999, "f1": "high"}')
    before = models("list")[1].replace(NOTHING, "-").splitlines()[1:]
    numbers = [foreign(client), foreign(client, run_id=run), foreign(client, run_id=gone)]
    numbers += [foreign(client, run_id="0" * 32), foreign(client, tags={LINEAGE: '{"git": 1}', FIGURES: "["})]
    status, text = models("list")
    head, *lines = text.replace(NOTHING, "-").splitlines()
    assert (status, head.split()[:6]) == (0, ["version", "status", "accuracy", "f1", "roc_auc", "images"])
    for number, line in zip(reversed(numbers), lines, strict=False):
        assert line.startswith(f"{number}       not by Twofold -        -     -       -  ")
        shown = models("show", str(number))
        assert (shown[0], "neither" in shown[1], "not by Twofold" in shown[1]) == (0, False, True)
    assert [line.split() for line in lines[5:]] == [line.split() for line in before]
    assert before[0].split()[:6] == ["3", "challenger", "-", "-", "0.999", "-"]
    assert before[2].split()[:7] == ["1", "was", "champion", "0.714", "0.667", "0.833", "7"]
    found = {each["version"]: each["foreign"] for each in json.loads(models("list", "--json")[1])}
    assert found == {number: number > 3 for number in (8, 7, 6, 5, 4, 3, 2, 1)}


def test_the_list_of_a_store_without_versions_is_empty(models):
    assert models("list", "--name", "nothing") == (0, "'nothing' has no version yet\n")
    status, text = models("show", "1", "--name", "nothing")
    assert (status, "'nothing' has no version in this store; see MLFLOW_TRACKING_URI" in text) == (1, True)


def test_show_has_gates_metrics_decisions_lineage_and_links(models, models_store):
    status, text = models("show", "champion", "--json")
    found = json.loads(text)
    assert (status, found["version"], found["standing"], found["judged_against"]) == (0, 2, "champion", "1")
    gates = [(gate["figure"], gate["passed"], gate["against"]) for gate in found["gates"]]
    assert gates == [("accuracy", True, None), ("roc_auc", True, "1")]
    assert found["conditions"]["reference_since"] == 1
    assert [entry["action"] for entry in found["decisions"]] == ["promote"]
    lineage = found["lineage"]
    assert set(lineage["git"]) == {"commit", "changed"}
    assert lineage["base_sha256"] == "b" * 64
    assert lineage["libraries"]["torch"].startswith("2.")
    assert lineage["hardware"]["device"] == "cpu"
    assert found["links"]["run"].endswith(
        f"{models_store.client.get_model_version('corner', '2').run_id}?workflowType=machine_learning"
    )
    text = models("show", "2")[1]
    assert found["test_reuse"] == "candidate 2 on these test images, 1 promoted before"
    for words in (
        f"gates (compared with version 1)\n  {found['test_reuse']}\n",
        "passed          accuracy at least 0.7",
        "git commit",
        "mlflow ui --backend-store-uri sqlite:///",
    ):
        assert words in text


@pytest.mark.parametrize("which", ["4", "0", "-1", "x", "latest"])
def test_the_error_for_an_unknown_version_names_the_known_ones(models, which):
    status, text = models("show", "--", which)
    assert status == 1
    assert f"has no version '{which}'; its versions are 1, 2, 3, and by alias champion (2), challenger (3)" in text


def test_compare_uses_the_images_of_both_versions(models):
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
    assert "version 1  version 2  difference  95 % interval" in text
    models("approve", "3", *WHY)
    for words in (["list"], ["history"], ["compare", "1", "3"]):
        assert max(map(len, models(*words)[1].splitlines())) <= 80


def test_a_reason_cannot_look_like_another_entry_nor_control_the_terminal(models):
    assert models("reject", "--actor", "ann", "--reason", "slow\n   5  2030-01-01  promote  version 9\x1b[2J")[0] == 0
    text = models("history")[1]
    assert sum(line[3:6] != "   " for line in text.splitlines()) == 4
    assert "\x1b" not in text


def test_history_shows_every_decision_and_detects_changes(models, models_store):
    status, text = models("history")
    assert status == 0
    assert [line.split()[2:5] for line in text.splitlines() if line[3] != " "] == [
        ["promote", "version", "1,"],
        ["promote", "version", "2,"],
        ["challenge", "version", "3,"],
    ]
    assert "candidate 2 on these test images, 1 promoted before" in " ".join(text.split())
    found = json.loads(models("history", "--json")[1])
    assert (found["problems"], found["unfinished"]) == ([], False)
    assert [entry["previous"] for entry in found["entries"]] == ["", *(e["sha256"] for e in found["entries"][:-1])]
    (second,) = [key for key in models_store.client.get_registered_model("corner").tags if ".000002." in key]
    models_store.client.delete_registered_model_tag("corner", second)
    status, text = models("history")
    assert (status, "WRONG: entry 2 is missing" in text) == (1, True)
    status, text = models("history", "--repair")
    assert (status, "the ledger of 'corner' is damaged: entry 2 is missing" in text) == (1, True)
    assert models("history", "--repair", "--reason", "lost in a migration", "--actor", "ann")[0] == 0
    status, text = models("history")
    assert (status, "acknowledged: entry 2 is missing" in text, "WRONG" in text) == (0, True, False)


def test_history_repair_sets_the_aliases_as_the_ledger_says(models, models_store):
    models_store.client.set_registered_model_alias("corner", "champion", "3")
    models_store.client.delete_registered_model_alias("corner", "challenger")
    status, text = models("history")
    assert (status, text.count("WRONG: the alias")) == (1, 2)
    status, text = models("approve", *WHY)
    assert (status, "someone has moved it in MLflow" in text) == (1, True)
    status, text = models("history", "--repair")
    assert status == 0
    assert "repaired: 'champion' moved from version 3 to 2" in text
    assert aliases(models_store) == {"champion": 2, "challenger": 3}
    assert "nothing to repair" in models("history", "--repair")[1]
    assert models("history", "--reason", "x")[0] == 1


def test_the_actor_is_gits_user_unless_one_is_given(models, models_store, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_COUNT", "2")
    for number, (key, value) in enumerate((("user.name", "Ada"), ("user.email", "ada@example.org"))):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", key)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", value)
    assert models("reject", "--reason", "too slow")[0] == 0
    assert entries(models_store)[-1][3] == "Ada <ada@example.org>"


def test_the_default_name_of_the_model_is_in_params_yaml(models_store, capsys, tmp_path):
    (tmp_path / "params.yaml").write_text("register: {model_name: corner}\n")
    with pytest.raises(SystemExit) as ended:
        main.main(["models", "list", "--params", str(tmp_path / "params.yaml")])
    assert (ended.value.code, len(capsys.readouterr().out.splitlines())) == (0, 4)
