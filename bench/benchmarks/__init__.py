"""The benchmarks B1 to B11, one file each, with a `run()` that returns comparisons."""
