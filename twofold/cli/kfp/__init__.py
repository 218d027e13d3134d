"""The command `twofold kfp`: compile, run, submit and schedule the pipeline, and check a cluster."""
