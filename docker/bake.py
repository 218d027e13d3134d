"""Put verified weights into an image while it is built.

In: a folder of weight files that may be empty, and `backbone:weights` for each that is wanted. Out: the files in the
target folder, readable by everyone, each with the SHA-256 and the shape that twofold/training/pretrained_weights.py asks for.
"""

import os
import shutil
import sys
from pathlib import Path

from twofold.core.errors import TwofoldError, WeightsError
from twofold.training.pretrained_weights import locate, pretrained, weights_source


def bake(given: Path, target: Path, wanted: list[str]) -> None:
    """Copy what is wanted from the given folder, or from where training would find it, once it has proved sound."""
    target.mkdir(parents=True)
    os.environ["TWOFOLD_WEIGHTS"] = str(given)
    for name in wanted:
        backbone, colon, weights = name.partition(":")
        if not colon:
            raise WeightsError(f"WEIGHTS: found {name!r}, expected BACKBONE:WEIGHTS, such as resnet50:imagenet1k_v1")
        pretrained(backbone, weights, 0.0)
        path = locate(backbone, weights)
        copy = target / weights_source(backbone, weights).file
        shutil.copyfile(path, copy)
        # What was recorded at first use, where no whole SHA-256 is published.
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
