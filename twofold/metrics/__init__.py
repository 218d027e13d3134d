"""Statistics of a test: targets and probabilities in, metrics with their confidence intervals out."""
