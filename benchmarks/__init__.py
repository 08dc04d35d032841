"""Side-by-side runs: interleaved, medians, ratios. Each prints a table and writes JSON into ``benchmarks/results/``."""
