"""Model versions, aliases and the ledger that explains them: a verdict or a decision in, a changed registry out."""
