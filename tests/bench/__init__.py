"""Benchmarks: ours and what it is compared to, side by side in one run."""
