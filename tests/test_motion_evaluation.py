"""Errors of motion models against independent computations, and what they say about known distributions."""

import itertools

import jax
import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from tests.support.motion import straight_lines, two_ways
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.motion.evaluation import best_of, draw_samples, motion_errors, pairwise_distance
from vidcomp_jax.motion.linear import LinearMotion, interpolate


class Noisy:
    """The straight line with noise that is drawn from the keys."""

    stochastic, ends_only, num_keypoints, num_frames = True, False, None, None

    def __init__(self, size=0.1):
        self.size = size

    def generate(self, known, times, num_frames, keys, clock=None):
        line = interpolate(known, times, num_frames)
        noise = jax.vmap(lambda key: jax.random.normal(key, line.position.shape[1:]))(keys)
        return Keypoints(line.position + self.size * noise.at[:, [0, -1]].set(0), line.jacobian)


def test_errors_equal_sums_over_all_samples_and_pairs():
    truth = two_ways(5)
    samples = draw_samples(Noisy(), truth, num_samples=6)
    found = motion_errors(Noisy(), truth, num_samples=6)
    errors = np.zeros((5, 6))
    for clip, sample in itertools.product(range(5), range(6)):
        distances = [
            np.sqrt(((samples[clip, sample, t, 0] - truth.position[clip, t, 0]) ** 2).sum()) for t in range(1, 7)
        ]
        errors[clip, sample] = np.mean(distances)
    pairs = [
        np.mean([np.sqrt(((samples[clip, i, t, 0] - samples[clip, j, t, 0]) ** 2).sum()) for t in range(1, 7)])
        for clip in range(5)
        for i, j in itertools.permutations(range(6), 2)
    ]
    assert found["error"] == found["error_best_1"] == pytest.approx(errors.mean(), rel=1e-5)
    groups = [errors[clip, start : start + 3].min() for clip in range(5) for start in (0, 3)]
    assert found["error_best_3"] == pytest.approx(np.mean(groups), rel=1e-5)
    assert "error_best_10" not in found
    assert found["apd"] == pytest.approx(np.mean(pairs), rel=1e-5)
    assert found["energy_score"] == pytest.approx(errors.mean() - np.mean(pairs) / 2, rel=1e-5)
    for order, name in ((1, "velocity"), (2, "acceleration")):
        sizes = [np.linalg.norm(np.diff(x, order, axis=-3), axis=-1).ravel() for x in (samples, truth.position)]
        assert found[name] == pytest.approx(wasserstein_distance(*sizes), rel=0.03)


def test_linear_motion_is_sampled_once_and_is_its_own_baseline():
    truth = two_ways(4)
    found = motion_errors(LinearMotion(), truth, num_samples=50)
    assert found["error"] == found["error_linear"] == found["energy_score"] == found["error_best_1"]
    assert (found["apd"], found["diversity"]) == (0, 0) and "error_best_3" not in found
    assert found["velocity"] == found["velocity_linear"] and found["acceleration"] == found["acceleration_linear"]
    assert motion_errors(LinearMotion(), straight_lines(4))["error"] < 1e-6


def test_the_energy_score_does_not_reward_noise_as_the_best_of_many_does():
    """The truth is the line with noise of 0.1: samples with the same noise score best, not those with none or more."""
    line = straight_lines(300)
    rng = np.random.default_rng(0)
    noise = 0.1 * rng.normal(size=line.position.shape).astype(np.float32)
    noise[:, [0, -1]] = 0
    truth = line._replace(position=line.position + noise)
    found = {size: motion_errors(Noisy(size), truth, num_samples=50) for size in (0.0, 0.1, 0.2)}
    assert found[0.1]["energy_score"] < min(found[0.0]["energy_score"], found[0.2]["energy_score"])
    assert found[0.1]["acceleration"] < min(found[0.0]["acceleration"], found[0.2]["acceleration"])
    mean = {size: x["error"] for size, x in found.items()}
    assert mean[0.0] < mean[0.1] < mean[0.2]


def test_best_of_uses_disjoint_groups_and_apd_all_pairs():
    errors = np.array([[5.0, 1, 4, 3, 2, 9, 0]])
    assert best_of(errors, 1) == pytest.approx(24 / 7)
    assert best_of(errors, 3) == pytest.approx((1 + 2) / 2)  # the seventh sample belongs to no group of three
    assert best_of(errors, 7) == 0
    samples = np.zeros((1, 3, 4, 1, 2), np.float32)
    samples[0, 1, :, 0, 0], samples[0, 2, :, 0, 0] = 1, 3
    assert pairwise_distance(samples) == pytest.approx((1 + 3 + 2) / 3)
    assert pairwise_distance(samples[:, :1]) == 0


def test_the_seed_decides_the_samples():
    truth = two_ways(3)
    a, b, again = (draw_samples(Noisy(), truth, num_samples=2, seed=seed) for seed in (0, 1, 0))
    np.testing.assert_array_equal(a, again)
    assert np.abs(a - b).max() > 1e-2
