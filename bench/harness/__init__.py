"""What the benchmarks share: processes, load, figures, plots, and the comparison with an older version."""
