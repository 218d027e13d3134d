"""How a step runs: params.yaml, a command line or a pod in, a run step and its findings out."""
