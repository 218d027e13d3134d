"""Access to MLflow: the tracking store with its runs and metrics, and the model registry."""
