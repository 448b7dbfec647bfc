"""Side-by-side timings; the test suite runs none of them."""
