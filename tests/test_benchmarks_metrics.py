"""The benchmark of frame scores compares like with like."""

from benchmarks.metrics import Options, measure


def test_both_sides_compute_the_same_scores():
    result = measure(24, 3, Options(frames=3, rounds=2))
    assert len(result.ours) == len(result.theirs) == 2 and min(result.ours + result.theirs) > 0
    assert result.difference < 1e-5
