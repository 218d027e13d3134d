"""The comparison of a candidate with the champion: both and the gates in, a verdict out; writes nothing."""
