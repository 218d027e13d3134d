"""Classification metrics with their confidence intervals, computed from targets and probabilities."""
