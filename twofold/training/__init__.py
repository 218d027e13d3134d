"""Training: prepared images and a section of parameters in, weights and a history out."""
