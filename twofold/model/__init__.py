"""The network, which maps normalised images to logits and probabilities."""
