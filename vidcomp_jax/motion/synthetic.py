"""Synthetic curved motion: bodies of keypoints that rotate while they cross the frame."""

import numpy as np

from vidcomp_jax.fomm.keypoints import Keypoints


def turning_bodies(
    num_clips: int, num_frames: int = 16, num_keypoints: int = 10, *, alike: bool = False, seed: int = 0
) -> Keypoints:
    """Keypoints [n, t, k, ...] of a body that turns by about half a circle, which linear interpolation cuts short.

    Args:
        num_clips: clips.
        num_frames: of a clip.
        num_keypoints: of the body.
        alike: all bodies turn to the same side, equally fast, and stay in place, so that one pose tells the next;
            otherwise side, speed and way differ, and only both ends together tell them.
        seed: of all draws.
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
