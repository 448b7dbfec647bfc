"""The Fréchet distance between Gaussians fitted to two sets of features, and its extrapolation to infinitely many.

Input: features of real and of generated clips. Output: |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), where m and S are
the mean and the covariance of each set (Dowson and Landau, 1982; Heusel et al., 2017; for video, Unterthiner et al.,
2018).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Real

from vidcomp_jax.errors import InputError

_MIN_CLIPS_TO_EXTRAPOLATE = 16
_SIZES = 12

Features = Real[np.ndarray, "_n _d"]


class Extrapolated(NamedTuple):
    """The distance that infinitely many clips would have, estimated from subsets of those there are.

    Attributes:
        value: the estimate.
        sizes: numbers of clips of the subsets.
        distances: the distance for each of these sizes.
    """

    value: float
    sizes: tuple[int, ...]
    distances: tuple[float, ...]


def frechet_distance(real: Features, generated: Features) -> float:
    """The Fréchet distance between two sets of features, with unbiased covariances.

    With S1 = A'A and S2 = B'B, where A and B are the centered features divided by sqrt(n - 1), the nonzero eigenvalues
    of S1 S2 are the squared singular values of A B'. Their sum is the trace of the matrix square root. No square root
    of a singular matrix is taken, so the result is exact for fewer clips than features as well.

    Args:
        real: features of the real clips, one row per clip.
        generated: features of the generated clips; their number may be another one.

    Raises:
        InputError: a set has fewer than two clips, the numbers of features differ, or features are not finite.
    """
    for name, features in (("real", real), ("generated", generated)):
        if len(features) < 2:
            raise InputError(f"{len(features)} {name} clips; a Fréchet distance needs at least 2")
        if not np.isfinite(features).all():
            raise InputError(f"features of the {name} clips are not finite")
    if real.shape[1] != generated.shape[1]:
        raise InputError(f"{real.shape[1]} features of the real clips, {generated.shape[1]} of the generated ones")
    (mean_a, a), (mean_b, b) = _moments(real), _moments(generated)
    root = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    distance = np.square(mean_a - mean_b).sum() + np.square(a).sum() + np.square(b).sum() - 2 * root
    return float(max(distance, 0.0))


def extrapolated_distance(real: Features, generated: Features, *, seed: int = 0) -> Extrapolated | None:
    """Estimate the Fréchet distance of infinitely many clips.

    The distance of N clips exceeds that of infinitely many by an amount that is nearly proportional to 1/N. A line
    through the distances of random subsets of several sizes, as a function of 1/N, gives the estimate at 1/N = 0 (Chong
    and Forsyth, 2020, section 4).

    Args:
        real: features of the real clips, one row per clip.
        generated: features of the generated clips.
        seed: seed of the subsets.

    Returns:
        The estimate; None if a set has fewer than 16 clips.

    Raises:
        InputError: see `frechet_distance`.
    """
    count = min(len(real), len(generated))
    if count < _MIN_CLIPS_TO_EXTRAPOLATE:
        return None
    rng = np.random.default_rng(seed)
    sizes = np.unique(np.linspace(count // 2, count, _SIZES).round().astype(int))
    distances = []
    for size in sizes:
        subsets = (x[rng.permutation(len(x))[:size]] for x in (real, generated))
        distances.append(frechet_distance(*subsets))
    _, value = np.polyfit(1 / sizes, distances, 1)
    return Extrapolated(float(value), tuple(sizes.tolist()), tuple(distances))


def _moments(features: Features) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "m d"]]:
    """The mean, and a matrix with at most d rows whose product with its transpose, A'A, is the covariance."""
    values = np.asarray(features, np.float64)
    mean = values.mean(0)
    centered = (values - mean) / np.sqrt(len(values) - 1)
    if len(centered) > centered.shape[1]:
        centered = np.linalg.qr(centered)[1]
    return mean, centered
