"""Synthetic curved motion: bodies of keypoints that rotate while they cross the frame."""

import numpy as np

from vidcomp_jax.fomm.keypoints import Keypoints


def turning_bodies(
    num_clips: int, num_frames: int = 16, num_keypoints: int = 10, *, alike: bool = False, seed: int = 0
) -> Keypoints:
    """Generate bodies that rotate by 72 to 153 degrees, a motion that linear interpolation gets wrong.

    Args:
        num_clips: number of clips, n.
        num_frames: frames per clip, t.
        num_keypoints: keypoints per body, k.
        alike: rotate all bodies in place, by the same angle in the same direction, so that one pose determines the
            next. Otherwise direction, speed and path vary, and only both ends together determine them.
        seed: seed of all random draws.

    Returns:
        Keypoints: positions [n, t, k, 2] and Jacobians [n, t, k, 2, 2].
    """
    rng = np.random.default_rng(seed)
    angle = 2 * np.pi * np.arange(num_keypoints) / num_keypoints
    radius = (0.2 + 0.25 * (np.arange(num_keypoints) % 3) / 2)[:, None]
    body = radius * np.stack([np.cos(angle), np.sin(angle)], -1)
    time = np.linspace(0, 1, num_frames)
    start, end = rng.uniform(-0.3, 0.3, (2, num_clips, 1, 2))
    turn = rng.uniform(0.4, 0.85, (num_clips, 1)) * np.pi * rng.choice([-1, 1], (num_clips, 1))
    if alike:
        end, turn = start, np.full((num_clips, 1), 0.8 * np.pi)
    angle = rng.uniform(-np.pi, np.pi, (num_clips, 1)) + turn * time
    c, s = np.cos(angle), np.sin(angle)
    rotation = np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], -2)[:, :, None]
    center = start + time[:, None] * (end - start)
    position = center[:, :, None] + (rotation @ body[..., None])[..., 0]
    jacobian = np.broadcast_to(rotation, (*position.shape, 2))
    return Keypoints(position.astype(np.float32), jacobian.astype(np.float32))
