"""A model's answers on validation and test images in; decision, metrics by slice, robustness, explanations out."""
