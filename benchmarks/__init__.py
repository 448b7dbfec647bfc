"""Benchmarks against PyTorch and other data readers; the test suite does not run the timings."""
