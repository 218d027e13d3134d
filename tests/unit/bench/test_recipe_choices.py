"""The table and the mean of weights of `bench.studies.recipe_choices`."""

import torch

from bench.studies.recipe_choices import _mean, choices_table


def test_the_table_pairs_every_variant_with_the_recipe_of_the_same_seed() -> None:
    def run(recipe: float, views: float) -> dict[str, object]:
        values = {"roc_auc": 0.9, "accuracy": 0.8}
        best = values | {"log_loss": recipe, "seconds": 10.0}
        return {"variants": {"recipe": best, "views_8": values | {"log_loss": views, "seconds": 15.0}}}

    lines = choices_table([run(0.30, 0.29), run(0.40, 0.37)]).splitlines()
    assert lines[2] == "| recipe | 0.3500 | 0.9000 | 0.8000 | 10 s |"
    assert lines[3].startswith("| views_8 | -0.020 (-0.147 to +0.107) | +0.000 (+0.000 to +0.000) |")
    assert lines[3].endswith("| 1.50x |")


def test_weights_are_averaged_and_counters_kept() -> None:
    states = [{"weight": torch.tensor([value]), "batches": torch.tensor(7)} for value in (1.0, 3.0)]
    assert _mean(states) == {"weight": torch.tensor([2.0]), "batches": torch.tensor(7)}
