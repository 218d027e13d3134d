"""From predictions on validation and test images: operating point, metrics by slice, robustness and explanations."""
