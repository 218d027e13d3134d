"""The network: normalised images in, logits and probabilities out."""
