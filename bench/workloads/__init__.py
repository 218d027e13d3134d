"""The work that benchmarks and studies run: generated images, the pipeline's commands and paced training."""
