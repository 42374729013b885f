"""Benchmarks on real processes: `python -m bench --help`."""
