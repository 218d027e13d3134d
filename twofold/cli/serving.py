"""The commands that use a model: `twofold predict`, `export` and `drift`."""

import argparse
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from twofold.cli.output import Result, add_json, add_params, in_project

MODEL = "champion, a version (3), models:/NAME@ALIAS, models:/NAME/VERSION, or the folder of a sealed model"
# Exit statuses besides 0, 1 (an error) and 2 (wrong usage).
DRIFTED, REFUSED = 3, 4


def add(commands: Any) -> None:
    """Add the commands' parsers."""
    predict = commands.add_parser(
        "predict",
        help="predict the label of many images",
        epilog=f"Exit status: 0; {REFUSED} if the model refused a file (its row says why); 1 for an error.",
    )
    _add_model(predict)
    predict.add_argument("paths", nargs="+", metavar="PATH", help="file, folder, glob, s3://bucket/prefix or dvc+…")
    predict.add_argument("--csv", action="store_true", help="write CSV with a header instead of JSON lines")
    output = "the output file, written whole or not at all (standard output)"
    predict.add_argument("--to", type=Path, metavar="FILE", help=output)
    predict.set_defaults(run=_run_predict)

    export = commands.add_parser(
        "export",
        help="export a model as one file, which runs without Twofold",
        epilog="The file maps pixels to probabilities; its metadata describe the preprocessing and hold the decision "
        "threshold. Exit status: 0; 1 for an error.",
    )
    kinds = "model.onnx (in int8: model.int8.onnx), or model.pt2 for torch.export.load"
    export.add_argument("kind", choices=("onnx", "torch"), help=kinds)
    _add_model(export)
    export.add_argument("directory", type=Path, metavar="DIR", help="the folder for the file")
    export.add_argument(
        "--precision",
        choices=("float32", "int8"),
        help="the file's precision, if it is not the model's: its probabilities will differ; int8 (onnx only) is "
        "evaluated again on the test images",
    )
    export.add_argument("--data", type=Path, metavar="PREPARED", help="for int8: the model's data/prepared")
    loss = "for int8: the largest allowed loss of ROC-AUC on the test images, 0 to 1 (0.002)"
    export.add_argument("--max-auc-loss", type=float, metavar="LOSS", help=loss)
    export.set_defaults(run=_run_export)

    drift = commands.add_parser(
        "drift",
        help="test whether new images differ from a model's test images",
        epilog=f"Exit status: 0; {DRIFTED} if drift was found, so that a schedule can retrain; 1 for an error.",
    )
    _add_model(drift)
    drift.add_argument("source", metavar="SOURCE", help="folder, s3://bucket/prefix or dvc+…; labels are not needed")
    alpha = "the allowed rate of false alarms, above 0 and at most 0.5 (%(default)s)"
    drift.add_argument("--alpha", type=float, default=0.05, help=alpha)
    drift.set_defaults(run=_run_drift)
    add_json(export, drift)


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    add_params(parser, "names the model")


def _model_name(options: argparse.Namespace) -> Callable[[], str]:
    from twofold.orchestration.params_file import model_name

    return partial(in_project(lambda found: model_name(found.params)), options)


def _run_predict(options: argparse.Namespace) -> int:
    from twofold.serving.predict import predict

    try:
        refused = predict(options.model, options.paths, name=_model_name(options), to=options.to, as_csv=options.csv)
    except BrokenPipeError:
        # The reader has closed the pipe (`| head`); send what Python still flushes to the null device.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return REFUSED if refused else 0


def _run_export(options: argparse.Namespace) -> Result:
    from twofold.serving.export import export
    from twofold.serving.quantization_evaluation import as_text

    settings = {"precision": options.precision, "data": options.data, "max_auc_loss": options.max_auc_loss}
    done = export(options.kind, options.model, options.directory, name=_model_name(options), **settings)
    summary = f"{done.path}  {done.version}, {done.path.stat().st_size / 1e6:.1f} MB"
    values = {"path": str(done.path), "version": done.version, "difference": done.difference, "moved": done.moved}
    if done.evaluation is not None:
        return Result(f"{summary}; on the test images:\n{as_text(done.evaluation)}", values)
    summary += f"; no probability differs by more than {done.difference:.1g}"
    if done.precision != "float32":
        summary += (
            f"\nit computes in float32 and the model in {done.precision}: on random images, a probability differs from "
            f"the model's by up to {done.moved:.1g}"
        )
    return Result(summary, values)


def _run_drift(options: argparse.Namespace) -> Result:
    from twofold.serving.drift import as_json, as_text, drift

    found = drift(options.model, options.source, name=_model_name(options), alpha=options.alpha)
    return Result(as_text(found), as_json(found), DRIFTED if found.verdict.drift else 0)
