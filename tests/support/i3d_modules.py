"""Small modules with the signatures of the published I3D networks, in place of these."""

import warnings

import numpy as np
import torch

from vidcomp_jax.data import import_tensorflow

PROJECTION = np.random.default_rng(0).normal(size=(3 * 7 * 7 * 3, 400)).astype(np.float32)
"""Maps pooled values of three points in time, 7 x 7 places and 3 colors to 400 numbers."""


def stand_in(clips):
    """What the modules compute, in NumPy, for clips [b, t, 224, 224, 3] in [-1, 1]."""
    b, t = clips.shape[:2]
    pooled = clips.reshape(b, t, 7, 32, 7, 32, 3).mean((3, 5))[:, [0, t // 2, t - 1]]
    return pooled.reshape(b, -1) @ PROJECTION


def save_tensorflow(folder, *, features=400, name="default"):
    """Write a SavedModel with the signature of `deepmind/i3d-kinetics-400/1`."""
    tf = import_tensorflow()
    module = tf.Module()
    module.projection = tf.Variable(PROJECTION[:, :features])

    def run(frames):
        b, t = tf.shape(frames)[0], tf.shape(frames)[1]
        pooled = tf.reduce_mean(tf.reshape(frames, (b, t, 7, 32, 7, 32, 3)), (3, 5))
        chosen = tf.gather(pooled, tf.stack([0, t // 2, t - 1]), axis=1)
        return {"default": tf.reshape(chosen, (b, PROJECTION.shape[0])) @ module.projection}

    spec = tf.TensorSpec((None, None, 224, 224, 3), tf.float32, name="rgb_input")
    tf.saved_model.save(module, str(folder), signatures={name: tf.function(run, input_signature=[spec])})
    return folder


class Script(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("projection", torch.from_numpy(PROJECTION))

    def forward(self, x, rescale: bool = True, resize: bool = True, return_features: bool = False):
        assert not rescale and not resize and return_features
        b, _, t = x.shape[0], x.shape[1], x.shape[2]
        pooled = x.permute(0, 2, 3, 4, 1).reshape(b, t, 7, 32, 7, 32, 3).mean(5).mean(3)
        chosen = torch.stack([pooled[:, 0], pooled[:, t // 2], pooled[:, t - 1]], 1)
        return chosen.reshape(b, -1) @ self.projection


class OtherScript(torch.nn.Module):
    def forward(self, x, rescale: bool = True, resize: bool = True, return_features: bool = False):
        return x.mean([2, 3, 4])


def save_torch(path, module=Script):
    """Write a TorchScript file that is called like that of StyleGAN-V."""
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        torch.jit.script(module()).save(str(path))
    return path
