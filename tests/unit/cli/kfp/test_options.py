import argparse
import subprocess
import sys

import pytest

from twofold.cli.kfp import options as common
from twofold.core.errors import ParameterError
from twofold.kubeflow.definition.images import check_image, parse_images

DIGEST = "sha256:" + 64 * "0"


def parsed(*words):
    parser = argparse.ArgumentParser()
    common.add_compile_options(parser)
    common.add_argument_options(parser)
    return parser.parse_args(["--params", "tests/params.yaml", *words])


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


@pytest.mark.parametrize(
    "name",
    [
        "twofold-data:1a2b",
        "localhost/twofold-data:tests",
        "localhost:5000/twofold-data:1.0",
        "ghcr.io/team/twofold-data:abc",
        f"ghcr.io/team/twofold-data@{DIGEST}",
        f"ghcr.io/team/twofold-data:latest@{DIGEST}",
    ],
)
def test_a_name_that_identifies_one_image(name):
    assert check_image(name) == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("twofold-data", "no tag, which means latest"),
        ("localhost:5000/twofold-data", "no tag, which means latest"),
        ("twofold-data:latest", "the tag latest"),
        ("ghcr.io/team/twofold-data:latest", "the tag latest"),
        ("twofold-data@sha256:0123", "not a name like"),
        ("Two Fold:1", "not a name like"),
        ("", "not a name like"),
    ],
)
def test_a_name_that_does_not(name, message):
    with pytest.raises(ParameterError, match=message):
        check_image(name)


def test_two_images_by_digest_need_no_warning_and_one_by_tag_does(capsys):
    found = common.images_from(parsed("--image", f"data=a/data@{DIGEST}", "--image", f"train=a/train@{DIGEST}"))
    assert found == (f"a/data@{DIGEST}", f"a/train@{DIGEST}")
    assert capsys.readouterr().err == ""
    common.images_from(parsed("--image", f"data=a/data@{DIGEST}", "--image", "train=a/train:1"))
    warning = capsys.readouterr().err
    assert "a/train:1 is named by its tag" in warning
    assert "a/data" not in warning
    parse_images([f"data=a/data@{DIGEST}", "train=a/train:1"])
    assert capsys.readouterr().err == ""


def test_an_image_that_is_not_given_is_the_one_that_make_images_builds(capsys):
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert common.images_from(parsed("--image", "data=a/b:1")) == ("a/b:1", f"twofold-train:{commit}")


@pytest.mark.parametrize("word", ["dat=a:1", "a:1", "data:a:1"])
def test_an_unknown_image_is_refused(word):
    with pytest.raises(ParameterError, match="write it as data=NAME or train=NAME"):
        common.images_from(parsed("--image", word))


def test_the_arguments_of_a_run_are_whole_sections_and_force():
    assert common.overrides_from(parsed()) == {}
    words = "-p train_head.epochs=3 -p train_head.dropout=0.25 -p ingest.source=s3://b/x --force a"
    found = common.overrides_from(parsed(*words.split()))
    assert set(found) == {"train_head", "ingest", "force"}
    assert found["train_head"] == common.params_from(parsed())["train_head"] | {"epochs": 3, "dropout": 0.25}
    assert found["ingest"]["source"] == "s3://b/x"


@pytest.mark.parametrize("name", ["1", "01", "1.0", "true", "null", "yes", "1e3"])
def test_the_name_of_a_class_reaches_kubeflow_as_the_text_that_is_written(name):
    assert common.overrides_from(parsed("-p", f"ingest.positive={name}"))["ingest"]["positive"] == name


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("train_head.epochs=0", "train_head.epochs: found 0"),
        ("train_head.epochs=three", "train_head.epochs: found 'three'"),
        ("train_head.epochs=true", "train_head.epochs: found True"),
        ("train_head.dropout=.nan", "train_head.dropout"),
        ("train_head.epoch=3", "train_head.epoch: unknown key"),
        ("trainhead.epochs=3", "no 'trainhead'"),
        ("train_head=3", "write it as section.key=value"),
        ("train_head.epochs", "write it as section.key=value"),
        ("finetune_all.views=2.5", "finetune_all.views"),
        ("register.gates=[]", "register.gates"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name_type_or_range(word, message):
    with pytest.raises(ParameterError, match=message):
        common.overrides_from(parsed("-p", word))


def test_the_params_of_the_compiled_pipeline_are_those_of_the_file():
    found = common.params_from(parsed("-p", "train_head.epochs=3"))
    assert found["train_head"]["epochs"] == 60


def test_help_is_quick_and_every_command_has_one():
    code = (
        "import sys; sys.argv = ['x', '--help']\n"
        "import twofold.cli.main as p\n"
        "try: p.kfp_main()\nexcept SystemExit: pass\n"
        "heavy = {'kfp', 'torch', 'mlflow', 'yaml', 'docker'} & set(sys.modules)\n"
        "sys.exit(str(sorted(heavy)) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    for name in ("compile", "run", "submit", "schedule", "doctor"):
        assert f"\n    {name} " in done.stdout


@pytest.mark.parametrize("command", ["compile", "run", "submit", "schedule", "doctor"])
def test_a_commands_help(command):
    words = [sys.executable, "-X", "importtime", "-m", "pipelines", command, "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "usage: twofold kfp" in done.stdout
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert not {"torch", "mlflow"} & imported
