"""The Fréchet distance against SciPy's matrix square root, closed forms, and its bias for few clips."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from vidcomp_jax.errors import InputError
from vidcomp_jax.evaluation.frechet import extrapolated_distance, frechet_distance


def correlated(count, features, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99 + seed).normal(size=(features, features)) / np.sqrt(features)
    return rng.normal(size=(count, features)) @ mixing + shift


def by_matrix_square_root(real, generated):
    means = [x.mean(0) for x in (real, generated)]
    covariances = [np.cov(x, rowvar=False) for x in (real, generated)]
    root = np.real(sqrtm(covariances[0] @ covariances[1]))
    return np.square(means[0] - means[1]).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)


@pytest.mark.parametrize("counts", [(300, 300), (300, 80), (64, 41)])
def test_equals_the_matrix_square_root_where_that_is_stable(counts):
    real, generated = correlated(counts[0], 40), correlated(counts[1], 40, seed=1, shift=0.3)
    assert frechet_distance(real, generated) == pytest.approx(by_matrix_square_root(real, generated), rel=1e-6)


def test_fewer_clips_than_features():
    """A pair of sets in five of sixty dimensions has the distance that it has in these five."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(60, 5)))[0]
    real, generated = rng.normal(size=(20, 5)), 0.5 * rng.normal(size=(12, 5)) + 1
    within = by_matrix_square_root(real, generated)
    assert frechet_distance(real @ basis.T, generated @ basis.T) == pytest.approx(within, rel=1e-6)


def test_known_distances():
    features = correlated(7, 30)
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(features, features + 0.5) == pytest.approx(30 * 0.25)
    # A set scaled by two around its mean: the covariances commute, so the roots are differences of deviations.
    mean = features.mean(0)
    spread = np.square(features - mean).sum() / 6
    assert frechet_distance(features, mean + 2 * (features - mean)) == pytest.approx(spread)
    assert frechet_distance(np.zeros((2, 3)), np.ones((2, 3))) == pytest.approx(3)


def test_extrapolation_removes_most_of_the_bias_of_few_clips():
    real, generated = (np.random.default_rng(seed).normal(size=(400, 50)) for seed in (0, 1))  # true distance 0
    raw = frechet_distance(real, generated)
    found = extrapolated_distance(real, generated)
    assert raw > 2 and abs(found.value) < 0.15 * raw
    assert found.sizes[0] == 200 and found.sizes[-1] == 400
    assert found.distances[-1] == pytest.approx(raw, rel=1e-9)
    assert extrapolated_distance(real, generated) == found  # the subsets have a seed
    assert extrapolated_distance(real[:15], generated) is None


@pytest.mark.parametrize(
    ("real", "generated", "says"),
    [
        (np.zeros((1, 4)), np.zeros((3, 4)), "1 real clips; a Fréchet distance needs at least 2"),
        (np.zeros((3, 4)), np.zeros((0, 4)), "0 generated clips"),
        (np.zeros((3, 4)), np.zeros((3, 5)), "4 features of the real clips, 5 of the generated"),
        (np.zeros((3, 4)), np.full((3, 4), np.nan), "features of the generated clips are not finite"),
    ],
)
def test_wrong_features_are_refused(real, generated, says):
    with pytest.raises(InputError, match=says):
        frechet_distance(real, generated)
