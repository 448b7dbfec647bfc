"""Benchmarks against PyTorch and other readers; the test suite does not run their timings."""
