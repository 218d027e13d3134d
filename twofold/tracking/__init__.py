"""MLflow's tracking server and registry: runs, metrics and versions in, MLflow's record of them out."""
