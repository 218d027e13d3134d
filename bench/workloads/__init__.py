"""Generated images and paced trainings that benchmarks and studies work on."""
