"""What all benchmarks share: timing, memory, results and the page that shows them."""
