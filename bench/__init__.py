"""Benchmarks of the real processes. `python -m bench` prints one JSON object per measure, each on a line of its own."""
