"""Model versions, aliases and the ledger: record verdicts and decisions in MLflow's model registry."""
