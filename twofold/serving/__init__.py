"""The sealed model: written, loaded and asked by `predict`, `export`, `drift` and MLflow's server."""
