"""Training: from prepared images and a section of params.yaml to weights and a history."""
