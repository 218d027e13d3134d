"""Sealed models: written, verified, and used by `predict`, `export`, `drift` and MLflow's server."""
