from pathlib import Path

import pytest
from ruamel.yaml import YAML

from twofold.core.errors import ParameterError
from twofold.orchestration.params_file import STEPS, check_all, describe, get_value, load_yaml, read, set_values

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def params(tmp_path):
    copy = tmp_path / "params.yaml"
    copy.write_text((ROOT / "tests" / "params.yaml").read_text())
    return copy


def test_setting_a_value_keeps_comments_and_order_and_returns_the_diff(params):
    before = params.read_text()
    diff = set_values(params, ["finetune_all.epochs=9", "ingest.positive=bad"])
    after = params.read_text()
    assert get_value(params, "finetune_all.epochs") == 9
    assert get_value(params, "ingest.positive") == "bad"
    assert after == before.replace("  epochs: 6\n", "  epochs: 9\n").replace("positive: defective", "positive: bad")
    assert "-  positive: defective\n+  positive: bad\n" in diff
    assert "+  epochs: 9\n" in diff


def test_setting_the_same_value_changes_nothing(params):
    before = params.read_text()
    assert set_values(params, ["ingest.positive=defective"]) == ""
    assert params.read_text() == before


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("finetune_all.epochs=0", "finetune_all.epochs: found 0"),
        ("finetune_all.epochs=1e-3", "finetune_all.epochs: found 0.001"),
        ("finetune_all.epoch=3", "unknown key"),
        ("finetune_all.image_size.start=96", "finetune_all.image_size is 'prepared' and holds no keys; set it whole"),
        ("finetune.epochs=3", "no 'finetune'"),
        ("finetune_all=3", "section.key=value"),
        ("finetune_all.epochs", "section.key=value"),
        ("ingest.positive=[", "not a YAML value"),
    ],
)
def test_nothing_is_written_unless_all_is_valid(params, assignment, words):
    before = params.read_text()
    with pytest.raises(ParameterError) as caught:
        set_values(params, ["ingest.positive=bad", assignment])
    assert words in str(caught.value)
    assert params.read_text() == before


def test_every_problem_of_every_section_is_listed_at_once(params):
    text = params.read_text().replace("epochs: 6", "epochs: 0").replace("positive: defective", "positive: {}")
    params.write_text(text + "\nextra: {}\n")
    with pytest.raises(ParameterError) as caught:
        read(params)
    for words in ("finetune_all.epochs: found 0", "ingest.positive: found {}", "extra: unknown section"):
        assert words in str(caught.value)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="Is a directory"):
        read(tmp_path)


def test_a_missing_section_is_named(params):
    text = params.read_text()
    params.write_text(text[: text.index("register:")])
    with pytest.raises(ParameterError, match="register: section missing"):
        read(params)


@pytest.mark.parametrize(("text", "words"), [("a: [", "not YAML"), ("3", "must hold the sections"), ("", "must hold")])
def test_a_file_without_a_mapping_is_refused(params, text, words):
    params.write_text(text)
    with pytest.raises(ParameterError, match=words):
        read(params)


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(ParameterError, match="run from the project's root"):
        read(tmp_path / "params.yaml")


def test_an_unknown_key_is_answered_with_the_known_ones(params):
    with pytest.raises(ParameterError, match=r"ingest\.sauce: no 'sauce' in .*; known keys: source, positive"):
        get_value(params, "ingest.sauce")


def test_every_step_is_described():
    assert tuple(step for step, _ in describe()) == STEPS


NAMES = ["0", "01", "1.0", "1e3", "0x1F", "1_000", "True", "null", "~", "yes", "2024-01-01"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_the_text_that_is_written(params, name):
    before = params.read_text()
    params.write_text(before.replace("positive: defective", f"positive: {name}  # the class"))
    assert read(params)["ingest"].positive == name
    set_values(params, ["finetune_all.epochs=9"])  # another one, which must not change the name
    assert get_value(params, "ingest.positive") == name
    assert "# the class" in params.read_text()
    params.write_text(before)
    for written in (name, f"'{name}'"):
        set_values(params, [f"ingest.positive={written}"])
        assert get_value(params, "ingest.positive") == name
    # DVC and other programs, which know nothing of names, must read the same.
    assert YAML(typ="safe").load(params.read_text())["ingest"]["positive"] == name


@pytest.mark.parametrize("mark", ["\ufeff", "\ufeff# all parameters\n"])
def test_a_byte_order_mark_is_skipped(params, mark):
    params.write_text(mark + params.read_text(), encoding="utf-8")
    assert read(params)["finetune_all"].epochs == 6
    diff = set_values(params, ["finetune_all.epochs=9"])
    assert diff.splitlines()[3:] == ["-  epochs: 6", "+  epochs: 9"]  # and no line whose difference nobody can see
    assert get_value(params, "finetune_all.epochs") == 9


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_another_encoding_is_named(params, encoding):
    params.write_text("# Schäden\n" + params.read_text(), encoding=encoding)
    with pytest.raises(ParameterError, match="not YAML in UTF-8"):
        read(params)


def test_an_invisible_character_in_a_key_is_shown(params):
    params.write_text(params.read_text().replace("  positive:", "  positive\u200b:"))
    with pytest.raises(ParameterError, match=r"ingest\.positive.u200b: unknown key"):
        read(params)
    with pytest.raises(ParameterError, match=r"finetune_all\.epochs.u200b: unknown key"):
        set_values(params, ["finetune_all.epochs\u200b=9"])


@pytest.mark.parametrize("value", ["3", "01", "true", "2024-01-01"])
def test_the_values_of_a_slice_are_names_too(params, value):
    gates = (
        f"register.gates=[{{figure: f1, min: 0.5, slice: {{{value}: {value}}}}}, {{figure: f1, min: 0, slice: null}}]"
    )
    set_values(params, [gates])
    assert [gate.slice for gate in read(params)["register"].gates] == [{value: value}, None]


@pytest.mark.parametrize(("value", "quoted"), [(1.0, '"1"'), (1.5, '"1.5"'), (True, '"true"'), (None, '"null"')])
@pytest.mark.parametrize("address", ["ingest.positive", "preprocess.split_salt", "register.experiment"])
def test_a_name_that_has_lost_its_text_is_refused_with_its_quoted_form(params, address, value, quoted):
    values = load_yaml(params)
    section, key = address.split(".")
    values[section][key] = value  # as Kubeflow passes 1, 01, true and null
    with pytest.raises(ParameterError) as caught:
        check_all(values)
    assert f"{address}: found {value!r}; must be text: write it in quotes" in str(caught.value)
    assert quoted in str(caught.value)


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: *a}"])
def test_a_file_that_contains_itself_is_refused(params, text):
    params.write_text(text)
    with pytest.raises(ParameterError):
        read(params)
