"""Load and comparison benchmarks, run by hand with `make bench`. Method: docs/performance.md."""
