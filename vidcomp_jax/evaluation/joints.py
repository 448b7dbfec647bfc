"""Errors of true joints, for data that has them: joints are a linear function of keypoints, fitted on training clips.

Unsupervised keypoints do not correspond to joints, so a linear regression maps one to the other (Thewlis et al., 2017).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from vidcomp_jax.data.clips import spread
from vidcomp_jax.data.synthetic.clips import SyntheticClips
from vidcomp_jax.data.synthetic.walker import JOINTS, left_first
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.media.images import to_float

NUM_FIT_CLIPS = 100
"""Number of training clips that the regression is fitted on, if there are that many."""


class JointFit(NamedTuple):
    """An affine function from keypoints to joints.

    Attributes:
        coefficients: [2 k + 1, 2 j]; the last row is the constant.
        names: of the j joints.
        ordered: brings the true joints into an order that pictures determine.
        mean: mean positions of the joints, a prediction that needs no keypoints.
    """

    coefficients: Float[np.ndarray, "n m"]
    names: tuple[str, ...]
    ordered: Callable[[np.ndarray], np.ndarray]
    mean: Float[np.ndarray, "j 2"]

    def errors(
        self,
        positions: Float[np.ndarray, "b s g k 2"],
        joints: Float[np.ndarray, "b g j 2"],
        scale: Float[np.ndarray, "2"],
    ) -> Float[np.ndarray, "b s g j"]:
        """Distances of the joints that belong to keypoint positions from the true ones, in pixels."""
        predicted = (_design(positions) @ self.coefficients).reshape(*positions.shape[:3], -1, 2)
        return np.linalg.norm((predicted - self.ordered(joints)[:, None]) * scale, axis=-1)

    def errors_of_mean(
        self, joints: Float[np.ndarray, "b g j 2"], scale: Float[np.ndarray, "2"]
    ) -> Float[np.ndarray, "b g j"]:
        """Distances of the mean positions from the true ones, in pixels."""
        return np.linalg.norm((self.mean - self.ordered(joints)) * scale, axis=-1)


def fit_joints(detect: Callable[[np.ndarray], Keypoints], train: SyntheticClips) -> JointFit:
    """Fit the joints of training clips to their keypoints.

    Args:
        detect: finds the keypoints of frames, [t, h, w, c] in [0, 1].
        train: the training clips.
    """
    # A walker may face either way, so that left and right, not near and far, is what a picture shows.
    walks = tuple(train.joint_names) == JOINTS
    ordered = left_first if walks else np.asarray
    rows, targets = [], []
    for clip in spread(len(train.names), NUM_FIT_CLIPS):
        frames = to_float(train.frames(clip, range(train.lengths[clip])))
        rows.append(_design(np.asarray(detect(frames).position)))
        targets.append(ordered(train.joints(clip)).reshape(len(frames), -1))
    target = np.concatenate(targets).astype(np.float64)
    coefficients, *_ = np.linalg.lstsq(np.concatenate(rows), target, rcond=None)
    names = [name.replace("near", "left").replace("far", "right") if walks else name for name in train.joint_names]
    return JointFit(coefficients, tuple(names), ordered, target.mean(0).reshape(-1, 2))


def _design(positions: Float[np.ndarray, "*b k 2"]) -> Float[np.ndarray, "*b n"]:
    flat = np.asarray(positions, np.float64).reshape(*positions.shape[:-2], -1)
    return np.concatenate([flat, np.ones((*flat.shape[:-1], 1))], axis=-1)
