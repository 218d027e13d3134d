"""The baseline chooses its epochs by the budget, and leaves the statistics of batch norms alone."""

import itertools

import numpy as np
import pytest
import torch

from bench.peers import baseline
from bench.workloads.prepared_images import generated


@pytest.mark.parametrize(("budget", "epochs"), [(0, 1), (9, 5)])
def test_the_budget_decides_how_many_epochs(tmp_path, monkeypatch, budget, epochs):
    clock = itertools.count()  # the first epoch takes two seconds, its validation one of them
    monkeypatch.setattr(baseline.time, "process_time", lambda: next(clock))
    torch.manual_seed(0)
    fitted = baseline.Baseline(generated(tmp_path / "data", 32, 8, 32), "efficientnet_lite0", "random", "mirrored")
    before = {name: value.clone() for name, value in fitted.network.state_dict().items()}
    assert fitted.fit(budget) == epochs
    changed = {name for name, value in fitted.network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name, _ in fitted.network.named_parameters()}
    assert np.all((fitted.predict("validation") > 0) & (fitted.predict("validation") < 1))
