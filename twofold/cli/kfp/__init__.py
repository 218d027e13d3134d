"""The command `twofold-pipelines`: compile, run, submit and schedule the pipeline, and check a cluster."""
