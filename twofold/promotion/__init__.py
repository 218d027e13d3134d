"""Comparison of a candidate with the champion: reads both and the gates, returns a verdict, writes nothing."""
