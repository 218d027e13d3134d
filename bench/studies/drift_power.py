"""`python -m bench.studies.drift_power [--draws 200]`: false alarms and detection rate of `twofold drift`.

Uses the 2,624 photographs of solar cells of the package elpv-dataset and the features of the packaged
EfficientNet-Lite0. A logistic regression learns from 1,000 of them; its probabilities are the scores. In each draw, 500
of the other 1,624 are the model's test images and 300 others the new ones: unchanged (an alarm is false), or with every
level multiplied by a factor (an alarm is right). Prints the counts and writes bench/results/<hardware>/drift.json.
"""

import argparse
import csv
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import binom

from bench.harness.results import save
from twofold.core.progress import track
from twofold.data.resizing import resize
from twofold.evaluation.drift_reference import ReferenceSample, pooled_features
from twofold.serving.drift import drift_verdict
from twofold.training.pretrained_weights import pretrained

ALPHA = 0.05  # the command's default
TAUGHT, OLD, NEW = 1000, 500, 300
SIZE, BATCH = 192, 16
LEVELS = (0.8, 0.9, 0.95, 1.05, 1.1, 1.2)  # 0.8 and 1.2 must be detected; the others show the test's sensitivity
SURE = 0.999  # probability with which the false alarms of a test at 5 % stay within the accepted number


def cells() -> tuple[list[Path], NDArray[np.int64]]:
    """The photographs, and whether each cell is defective."""
    home = Path(str(find_spec("elpv_dataset").origin)).parent / "data"  # type: ignore[union-attr]
    with (home / "labels.csv").open(encoding="utf-8") as stream:
        rows = [row for row in csv.reader(stream, delimiter=" ", skipinitialspace=True) if row]
    return [home / row[0] for row in rows], np.array([float(row[1]) >= 0.5 for row in rows], np.int64)


def _features(files: list[Path], factor: float) -> NDArray[np.float16]:
    """Features of the photographs with every level multiplied by the factor, at most white."""
    classifier, _ = pretrained("efficientnet_lite0", "packaged", 0.5)
    table = [min(255, round(level * factor)) for level in range(256)]

    def batches() -> Any:
        for start in range(0, len(files), BATCH):
            images = (Image.open(path).convert("L").point(table) for path in files[start : start + BATCH])
            yield np.stack([np.asarray(resize(image, (0, 0, *image.size), SIZE, "squash")) for image in images])[
                ..., None
            ]

    tracked = track(batches(), f"features, levels x {factor}", len(files), per_item=BATCH)
    return pooled_features(classifier, tracked, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def samples(factors: tuple[float, ...]) -> dict[float, ReferenceSample]:
    """For each factor, features and scores of the images that the model did not learn from."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    files, target = cells()
    order = np.random.default_rng(0).permutation(len(files))
    taught, pool = order[:TAUGHT], [files[i] for i in order[TAUGHT:]]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    model.fit(_features([files[i] for i in taught], 1.0).astype(np.float64), target[taught])
    features = {factor: _features(pool, factor) for factor in factors}
    return {
        factor: ReferenceSample(values, model.predict_proba(values.astype(np.float64))[:, 1].astype(np.float32))
        for factor, values in features.items()
    }


def alarms(same: ReferenceSample, other: ReferenceSample, draws: int) -> int:
    """The number of draws in which 300 images of `other` are found to drift from 500 different images of `same`."""
    count = 0
    for draw in range(draws):
        chosen = np.random.default_rng([1, draw]).permutation(len(same.scores))[: OLD + NEW]
        old, new = chosen[:OLD], chosen[OLD:]
        verdict = drift_verdict(
            ReferenceSample(same.features[old], same.scores[old]),
            ReferenceSample(other.features[new], other.scores[new]),
            ALPHA,
        )
        count += verdict.drift
    return count


def main() -> None:
    """Print and write the counts; exit 1 if there are too many false alarms or a change of 20 % is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--draws", type=int, default=200, help="draws of images without drift (%(default)s)")
    draws = parser.parse_args().draws
    by_factor = samples((1.0, *LEVELS))
    begin = time.perf_counter()
    false = alarms(by_factor[1.0], by_factor[1.0], draws)
    seconds = (time.perf_counter() - begin) / draws
    accepted = int(binom.ppf(SURE, draws, ALPHA))
    print(f"no drift: {false} alarms in {draws} draws, at most {accepted} accepted; {seconds:.2f} s per draw")
    tries = max(1, draws // 4)
    found = {}
    for factor in LEVELS:
        found[factor] = alarms(by_factor[1.0], by_factor[factor], tries)
        print(f"levels x {factor}: detected in {found[factor]} of {tries} draws, n = {NEW}", flush=True)
    result = {"draws": draws, "false": false, "accepted": accepted, "seconds": seconds, "tries": tries}
    save("drift", result | {"found": found})
    raise SystemExit(int(false > accepted or min(found[0.8], found[1.2]) < tries))


if __name__ == "__main__":
    main()
