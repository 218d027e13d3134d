"""Puts verified pretrained weights into an image while it is built.

Takes a folder of weight files, which may be empty, and one `backbone:weights` per file; writes the files into the
target folder, readable by everyone. SHA-256 and shapes are checked by twofold/training/pretrained_weights.py.
"""

import os
import shutil
import sys
from pathlib import Path

from twofold.core.errors import TwofoldError, WeightsError
from twofold.training.pretrained_weights import locate, pretrained, weights_source


def bake(source: Path, target: Path, names: list[str]) -> None:
    """Copy the wanted weights from the source folder, or from where training finds them, after verifying them."""
    target.mkdir(parents=True)
    os.environ["TWOFOLD_WEIGHTS"] = str(source)
    for name in names:
        backbone, colon, weights = name.partition(":")
        if not colon:
            raise WeightsError(f"WEIGHTS: found {name!r}, expected BACKBONE:WEIGHTS, such as resnet50:imagenet1k_v1")
        pretrained(backbone, weights, 0.0)
        path = locate(backbone, weights)
        copy = target / weights_source(backbone, weights).file
        shutil.copyfile(path, copy)
        # The SHA-256 recorded at first use, if the publisher gives no complete one.
        record = path.with_name(path.name + ".sha256")
        if record.exists():
            shutil.copyfile(record, copy.with_name(record.name))
        print(f"bake: {name}: {copy}")
    for path in target.iterdir():
        path.chmod(0o644)


if __name__ == "__main__":
    try:
        bake(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
    except TwofoldError as error:
        print(f"bake: error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
