"""The pipeline on Kubeflow: compiled, run on this machine, submitted to a server, and checked beforehand."""
