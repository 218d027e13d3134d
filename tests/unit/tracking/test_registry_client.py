"""Registry functions: versions by alias and key, downloads, scoring a champion, descriptions."""

import pytest

from tests.support import registration_case as case
from twofold.core.artifacts import read_json
from twofold.core.errors import ArtifactError, RegistryError
from twofold.promotion import champion_challenger
from twofold.promotion.candidate import read_candidate
from twofold.serving import model_resolver
from twofold.tracking import registry_client, runs
from twofold.tracking import store as tracking


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("candidate")
    with pytest.MonkeyPatch.context() as patch:
        case.know_corner(patch)
        return case.make_candidate(root, case.make_data(root))


@pytest.fixture
def store(mlflow_store, monkeypatch):
    case.hurry(monkeypatch)
    return tracking.connect()


@pytest.fixture
def version(store, made, tmp_path):
    """The champion, version 1."""
    case.run(made, tmp_path)
    return registry_client.version_by_alias(store, "corner")


def another(store, version):
    """A version 2 of the same files, without an alias."""
    tags = {key: value for key, value in version.tags.items() if key != registry_client.KEY}
    return store.client.create_model_version(version.name, version.source, version.run_id, tags)


def test_an_alias_points_to_a_version_or_none(store, version):
    assert (version.version, registry_client.version_by_alias(store, "corner", "challenger")) == (1, None)
    assert registry_client.version_by_alias(store, "unheard-of") is None


def test_a_version_is_found_by_its_candidates_key(store, version, monkeypatch):
    key = version.tags[registry_client.KEY]
    another(store, version)

    def found(name, key):
        return [each.version for each in registry_client.versions_of_candidate(store, name, key)]

    assert (found("unheard-of", key), found("corner", key), found("corner", "0" * 64)) == ([], [1], [])
    # A store that does not filter versions by tags returns all of them.
    monkeypatch.setattr(store.client, "search_model_versions", lambda words: [another(store, version), version])
    assert (found("corner", key), found("corner", "0" * 64)) == ([1], [])


def test_a_fetched_sealed_model_is_verified_against_its_tag(store, version, made, tmp_path):
    folder = model_resolver.fetch_sealed(store, version, tmp_path / "one")
    assert read_json(folder / "decision.json") == read_json(made.evaluation / "decision.json")
    version.tags[registry_client.SEAL] = "0" * 64
    with pytest.raises(ArtifactError, match=r"seal\.json: altered"):
        model_resolver.fetch_sealed(store, version, tmp_path / "two")
    del version.tags[registry_client.SEAL]
    with pytest.raises(RegistryError, match="was not sealed by Twofold"):
        model_resolver.fetch_sealed(store, version, tmp_path / "three")


def test_a_champion_without_files_is_a_problem_with_a_remedy(store, version, made, mlflow_store):
    for path in mlflow_store.rglob("artifacts/sealed"):
        path.rename(path.with_name("moved"))
    judged = champion_challenger.score_champion(store, version, read_candidate(*made))
    assert (judged.version, len(judged.answers.probability), judged.splits) == ("1", 0, {})
    assert "make another version champion with `twofold models rollback" in judged.problem


def test_a_champion_is_scored_on_the_same_images_at_its_own_threshold(store, version, made):
    candidate = read_candidate(*made)
    judged = champion_challenger.score_champion(store, version, candidate)
    assert judged.problem == ""
    assert judged.answers.probability == pytest.approx(candidate.test.probability, abs=1e-9)
    assert judged.answers.threshold == read_json(made.metrics)["threshold"]
    assert judged.splits == candidate.splits


def test_a_champion_with_other_preprocessing_is_scored_on_decoded_files(store, version, made, monkeypatch):
    candidate = read_candidate(*made)
    expected = champion_challenger.score_champion(store, version, candidate)
    # Square images have the same pixels with every `fit`, so the raw files must give the same metrics.
    monkeypatch.setitem(candidate.prepared.meta, "pixels", {**candidate.prepared.meta["pixels"], "fit": "crop"})
    monkeypatch.setattr(candidate.prepared, "pixels", None)
    found = champion_challenger.score_champion(store, version, candidate)
    assert found.answers.probability.tolist() == expected.answers.probability.tolist()


def test_only_settings_that_change_pixels_count_as_other_preprocessing():
    one = {"image_size": 32, "fit": "squash", "limits": {"max_bytes": 1}}
    assert champion_challenger.same_pixels(one, {**one, "limits": {"max_bytes": 2}})
    assert not champion_challenger.same_pixels(one, {**one, "image_size": 64})


def test_an_invalid_history_is_refused(store, tmp_path):
    run = store.client.create_run(tracking.experiment(store, "e"))
    path = tmp_path / "history.csv"
    with pytest.raises(ArtifactError, match="No such file"):
        runs.replay(store, run, "train_head", "d", path)
    for text in ("step,loss\n1,2\n", "epoch,loss\n1,low\n"):
        path.write_text(text)
        with pytest.raises(ArtifactError, match="needs a column 'epoch' and numbers"):
            runs.replay(store, run, "train_head", "d", path)
    assert [found.info.run_id for found in store.client.search_runs([run.info.experiment_id])] == [run.info.run_id]


def test_a_registered_model_is_described_unless_a_person_has_described_it(store, version, made, tmp_path):
    described = store.client.get_registered_model("corner")
    assert described.description.startswith("Tells images of **bad** from images of **good**.")
    assert "`twofold.lock.corner.…` without versions" in described.description
    run = store.client.get_run(version.run_id)
    (model,) = store.client.search_logged_models([run.info.experiment_id])
    for number, before, after in ((1, "", "about it"), (2, "by hand", "by hand")):
        store.client.update_registered_model("corner", before)
        registry_client.create_version(store, "corner", model, run, {registry_client.KEY: str(number)}, "", "about it")
        assert store.client.get_registered_model("corner").description == after


def test_the_cells_of_a_table_in_a_description_are_apart():
    table = ["a | b", "| metric | 95 % interval |", "| --- | --- |", r"| x \| y | 0.1 to 0.2 |", "a `| b |`"]
    assert registry_client.version_description("\n".join(table)).split("\n") == [
        "a | b",
        "| metric | &ensp;95 % interval |",
        "| --- | --- |",
        r"| x \| y | &ensp;0.1 to 0.2 |",
        "a `| b |`",
    ]


def test_a_long_description_is_cut():
    assert registry_client.version_description("short") == "short"
    cut = registry_client.version_description("x" * 9000)
    assert len(cut) == 5000
    assert cut.endswith("of the run.)")
