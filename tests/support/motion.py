"""Small motion data sets, and the training of motion models on them without a run folder."""

import functools
import itertools

import jax
import numpy as np
from flax import nnx

from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.motion.motion_file import motion_windows
from vidcomp_jax.motion.vectors import MotionStatistics, measure_limits, measure_statistics, to_vectors
from vidcomp_jax.training.step import init_state, map_over_devices

CPUS = jax.devices()


def vectors_of(motion: Keypoints) -> np.ndarray:
    """Motion vectors [n, t, v], scaled by the limits of the motion itself."""
    return np.asarray(to_vectors(motion, measure_limits(motion.jacobian)))


def statistics_of(motion: Keypoints) -> MotionStatistics:
    vectors = vectors_of(motion)
    count, length, size = vectors.shape
    return measure_statistics(vectors.reshape(-1, size), np.arange(count) * length, length)


def windows_of(motion: Keypoints, num_frames: int, **options):
    """A function that starts an iterator over batches of windows; it takes the remaining arguments."""
    vectors = vectors_of(motion)
    count, length, size = vectors.shape
    starts = (np.arange(count)[:, None] * length + np.arange(length - num_frames + 1)).ravel()
    return functools.partial(motion_windows, vectors.reshape(-1, size), starts, num_frames=num_frames, **options)


def training(model, tx, step, batches, devices=CPUS[:1]):
    """Train `model` forever; yield the state, which must be read before the next step, and the metrics of each step."""
    graphdef, constants, state = init_state(model, tx, devices)
    mapped = map_over_devices(graphdef, step, devices)
    for batch in batches:
        batch = batch.reshape(len(devices), -1, *batch.shape[1:])
        state, values = mapped(state, constants, batch, jax.random.key(0))
        yield state, {name: float(value) for name, value in values.items()}


def trained(model, tx, step, batches, num_steps, devices=CPUS[:1]):
    """Train `model`; return the trained one, and the metrics of every step."""
    steps = list(itertools.islice(training(model, tx, step, batches, devices), num_steps))
    state = steps[-1][0]
    return nnx.merge(nnx.graphdef(model), state.params, state.batch_stats), [metrics for _, metrics in steps]


def straight_lines(num_clips: int, num_frames: int = 8, num_keypoints: int = 2, seed: int = 0) -> Keypoints:
    """Keypoints that move from one random place to another at constant speed."""
    rng = np.random.default_rng(seed)
    time = np.linspace(0, 1, num_frames)[:, None, None]
    first, last = rng.uniform(-0.8, 0.8, (2, num_clips, 1, num_keypoints, 2))
    turn = rng.normal(0, 0.3, (2, num_clips, 1, num_keypoints, 2, 2)) + np.eye(2)
    position = (1 - time) * first + time * last
    jacobian = (1 - time[..., None]) * turn[0] + time[..., None] * turn[1]
    return Keypoints(position.astype(np.float32), jacobian.astype(np.float32))


def two_ways(num_clips: int, num_frames: int = 8, seed: int = 0) -> Keypoints:
    """One keypoint that moves from left to right on a half circle, above or below, each with probability 1/2."""
    rng = np.random.default_rng(seed)
    angle = np.pi * np.linspace(0, 1, num_frames)
    side = rng.choice([-1, 1], (num_clips, 1))
    position = 0.6 * np.stack([-np.cos(angle) + 0 * side, side * np.sin(angle)], -1)[:, :, None]
    jacobian = np.broadcast_to(np.eye(2), (*position.shape, 2))
    return Keypoints(position.astype(np.float32), np.ascontiguousarray(jacobian, np.float32))
