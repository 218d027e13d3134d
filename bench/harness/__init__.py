"""Timing, memory, results and their page: what every benchmark has in common."""
