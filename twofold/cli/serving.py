"""The commands that use a model: `twofold predict`, `export`, `drift`."""

import argparse
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from twofold.orchestration.params_file import get_value

MODEL = "champion, a version (3), models:/NAME@ALIAS, models:/NAME/VERSION, or the folder of a sealed model"
# Beside 0, 1 (an error) and 2 (a command that is not understood).
DRIFTED, REFUSED = 3, 4


def add(commands: Any) -> None:
    """Add the commands' parsers."""
    predict = commands.add_parser(
        "predict",
        help="a model's answer for each of many images",
        epilog=f"Exit status: 0; {REFUSED} if a file was no image that the model accepts (its row says why); 1 for an "
        "error.",
    )
    _model(predict)
    predict.add_argument("paths", nargs="+", metavar="PATH", help="file, folder, glob, s3://bucket/prefix or dvc+…")
    predict.add_argument("--csv", action="store_true", help="CSV with a header instead of JSON lines")
    predict.add_argument("--to", type=Path, metavar="FILE", help="write there, whole or not at all (standard output)")
    predict.set_defaults(run=_run_predict)

    export = commands.add_parser(
        "export",
        help="a model as one file, for where there is no Twofold",
        epilog="The file takes pixels and gives probabilities; its metadata says how files become pixels, and the "
        "threshold. Exit status: 0; 1 for an error.",
    )
    export.add_argument(
        "kind",
        choices=("onnx", "torch"),
        help="model.onnx (in int8, model.int8.onnx), or model.pt2 for torch.export.load",
    )
    _model(export)
    export.add_argument("directory", type=Path, metavar="DIR", help="folder for the file")
    export.add_argument(
        "--precision",
        choices=("float32", "int8"),
        help="of the file, where the model answers in another one: it will give other probabilities; int8 (onnx only) "
        "is measured again on the test images",
    )
    export.add_argument("--data", type=Path, metavar="PREPARED", help="for int8: data/prepared that the model is of")
    export.add_argument(
        "--max-auc-loss",
        type=float,
        metavar="LOSS",
        help="for int8: by how much ROC-AUC on the test may fall, 0 to 1 (0.002)",
    )
    export.set_defaults(run=_run_export)

    drift = commands.add_parser(
        "drift",
        help="whether new images look to a model like those that it was tested on",
        epilog=f"Exit status: 0; {DRIFTED} if drift was found, so that a schedule can train again; 1 for an error.",
    )
    _model(drift)
    drift.add_argument("source", metavar="SOURCE", help="folder, s3://bucket/prefix or dvc+…; labels are not needed")
    drift.add_argument("--json", action="store_true", help="the comparison as a JSON object")
    drift.add_argument(
        "--alpha",
        type=float,
        default=0.05,
        help="share of comparisons without drift that may raise an alarm, above 0 and at most 0.5 (%(default)s)",
    )
    drift.set_defaults(run=_run_drift)


def _model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument(
        "--params", type=Path, default=Path("params.yaml"), help="names the registered model (%(default)s)"
    )


def _run_predict(options: argparse.Namespace) -> int:
    from twofold.serving.predict import predict

    try:
        count = predict(
            options.model,
            options.paths,
            name=partial(get_value, options.params, "register.model_name"),
            to=options.to,
            as_csv=options.csv,
        )
    except BrokenPipeError:
        # Whoever read has enough (`| head`); what Python still wants to flush goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return REFUSED if count.refused else 0


def _run_export(options: argparse.Namespace) -> int:
    from twofold.serving.export import export
    from twofold.serving.quantization_evaluation import as_text

    done = export(
        options.kind,
        options.model,
        options.directory,
        name=partial(get_value, options.params, "register.model_name"),
        precision=options.precision,
        data=options.data,
        max_auc_loss=options.max_auc_loss,
    )
    named = f"{done.path}  {done.version}, {done.path.stat().st_size / 1e6:.1f} MB"
    if done.evaluation is not None:
        print(f"{named}; on the test images:\n{as_text(done.evaluation)}")
        return 0
    print(f"{named}; no probability differs by more than {done.difference:.1g}")
    if done.precision != "float32":
        print(
            f"it computes in float32 and the model in {done.precision}: on random images, a probability differs from "
            f"the model's by up to {done.moved:.1g}"
        )
    return 0


def _run_drift(options: argparse.Namespace) -> int:
    from twofold.serving.drift import as_json, as_text, drift

    found = drift(
        options.model,
        options.source,
        name=partial(get_value, options.params, "register.model_name"),
        alpha=options.alpha,
    )
    print(json.dumps(as_json(found), indent=2) if options.json else as_text(found))
    return DRIFTED if found.verdict.drift else 0
