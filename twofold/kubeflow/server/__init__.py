"""A Kubeflow Pipelines server: its client, uploads, runs and recurring runs."""
