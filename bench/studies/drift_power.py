"""`python -m bench.studies.drift_power [--draws 200]`: how often drift is found where there is none, and where the light has changed.

In: 2,624 photographs of solar cells (the package elpv-dataset), as the packaged EfficientNet-Lite0 sees them; 1,000 of
them teach a logistic regression, whose probabilities are the scores. Out: lines, and `drift.json` in
bench/results/<hardware>/. In each draw 500 of the other 1,624 are the model's own test images and 300 others the new
ones: as they are (an alarm is false), or with every level multiplied (an alarm is right).
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
LEVELS = (0.8, 0.9, 0.95, 1.05, 1.1, 1.2)  # 0.8 and 1.2 must be found, the others say how sharp the test is
SURE = 0.999  # how many false alarms are accepted: what a test at 5 % stays below with this probability


def cells() -> tuple[list[Path], NDArray[np.int64]]:
    """The photographs, and whether each cell is defective."""
    home = Path(str(find_spec("elpv_dataset").origin)).parent / "data"  # type: ignore[union-attr]
    with (home / "labels.csv").open(encoding="utf-8") as stream:
        rows = [row for row in csv.reader(stream, delimiter=" ", skipinitialspace=True) if row]
    return [home / row[0] for row in rows], np.array([float(row[1]) >= 0.5 for row in rows], np.int64)


def seen(files: list[Path], factor: float) -> NDArray[np.float16]:
    """Features of the photographs, every level multiplied by the factor and cut off at white."""
    classifier, _ = pretrained("efficientnet_lite0", "packaged", 0.5)
    table = [min(255, round(level * factor)) for level in range(256)]

    def batches() -> Any:
        for start in range(0, len(files), BATCH):
            images = (Image.open(path).convert("L").point(table) for path in files[start : start + BATCH])
            yield np.stack([resize(np.asarray(image)[:, :, None], SIZE, "squash") for image in images])

    shown = track(batches(), f"features, levels x {factor}", len(files), per_item=BATCH)
    return pooled_features(classifier, shown, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def samples(factors: tuple[float, ...]) -> dict[float, ReferenceSample]:
    """What the model sees and says of the images that it has not learned from, in each light."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    files, target = cells()
    order = np.random.default_rng(0).permutation(len(files))
    taught, pool = order[:TAUGHT], [files[i] for i in order[TAUGHT:]]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    model.fit(seen([files[i] for i in taught], 1.0).astype(np.float64), target[taught])
    found = {factor: seen(pool, factor) for factor in factors}
    return {
        factor: ReferenceSample(of, model.predict_proba(of.astype(np.float64))[:, 1].astype(np.float32))
        for factor, of in found.items()
    }


def alarms(same: ReferenceSample, other: ReferenceSample, draws: int) -> int:
    """In how many draws drift is found between 500 images of the one and 300 others of the other sample."""
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
    """Print and write the counts; exit 1 if there are too many false alarms, or a change of 20 % is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--draws", type=int, default=200, help="of images without drift (%(default)s)")
    options = parser.parse_args()
    of = samples((1.0, *LEVELS))
    begin = time.perf_counter()
    false = alarms(of[1.0], of[1.0], options.draws)
    took = (time.perf_counter() - begin) / options.draws
    most = int(binom.ppf(SURE, options.draws, ALPHA))
    print(f"no drift: {false} alarms in {options.draws} draws, accepted are {most}; {took:.2f} s a draw")
    tries = max(1, options.draws // 4)
    found = {}
    for factor in LEVELS:
        found[factor] = alarms(of[1.0], of[factor], tries)
        print(f"levels x {factor}: found in {found[factor]} of {tries} draws, n = {NEW}", flush=True)
    result = {"draws": options.draws, "false": false, "accepted": most, "seconds": took, "tries": tries}
    save("drift", result | {"found": found})
    raise SystemExit(int(false > most or min(found[0.8], found[1.2]) < tries))


if __name__ == "__main__":
    main()
